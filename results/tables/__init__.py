"""Tables: values in, text out. Each is made from one frame; `render` knows the forms."""

from results.tables.figures import NOTHING, bits, gain, megabytes, milliseconds, seconds, stamped
from results.tables.render import Cells, Column, Table, markdown_table
from results.tables.seeds import (
    DIAGNOSTIC,
    LEGEND,
    OF_SCRIPT,
    SIMULATED,
    SeedLine,
    line_of_parsed,
    line_of_row,
    seed_cells,
    seed_table,
    spread,
    spread_line,
    spread_lines,
    unscored,
)
from results.tables.submission import gate_cells, published_lines, report, title_of
from results.tables.terminal import plain_table

__all__ = [
    "DIAGNOSTIC",
    "LEGEND",
    "NOTHING",
    "OF_SCRIPT",
    "SIMULATED",
    "Cells",
    "Column",
    "SeedLine",
    "Table",
    "bits",
    "gain",
    "gate_cells",
    "line_of_parsed",
    "line_of_row",
    "markdown_table",
    "megabytes",
    "milliseconds",
    "plain_table",
    "published_lines",
    "report",
    "seconds",
    "seed_cells",
    "seed_table",
    "spread",
    "spread_line",
    "spread_lines",
    "stamped",
    "title_of",
    "unscored",
]
