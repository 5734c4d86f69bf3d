"""The files that a submission's rows become: results.csv, scores.csv and table.md.

The one module of the main way that needs pandas; packing a submission does without.
"""

import typing
from collections.abc import Sequence

import pandas as pd

from golf_core.rundir import write_bytes
from results.collect import Collected
from results.rows import COLUMNS, SCORE_COLUMNS, Row
from results.tables import report

RESULTS_CSV, SCORES_CSV, TABLE_MD = "results.csv", "scores.csv", "table.md"
DTYPES: dict[typing.Any, str] = {
    kind: name
    for plain, name in ((bool, "boolean"), (int, "Int64"), (float, "Float64"), (str, "str"))
    for kind in (plain, plain | None)
}


def frame(rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> pd.DataFrame:
    """One pandas row a run, columns typed, the unknown as NA."""
    hints = typing.get_type_hints(Row)
    return pd.DataFrame(
        {name: pd.array([getattr(row, name) for row in rows], dtype=DTYPES[hints[name]]) for name in columns}
    )


def csv_text(rows: Sequence[Row], columns: Sequence[str] = COLUMNS) -> str:
    """CSV with the shortest digits that give the same number again; an empty cell is not known."""
    return str(frame(rows, columns).to_csv(index=False, lineterminator="\n"))


def write_outputs(found: Collected) -> str:
    """Write results.csv, scores.csv and table.md of a submission; the table's text."""
    text = report(found.spec, found.rows, found.gates, found.notes)
    write_bytes(found.spec.folder / RESULTS_CSV, csv_text(found.rows).encode())
    write_bytes(found.spec.folder / SCORES_CSV, csv_text(found.rows, SCORE_COLUMNS).encode())
    write_bytes(found.spec.folder / TABLE_MD, text.encode())
    return text
