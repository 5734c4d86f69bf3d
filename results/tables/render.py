"""One table, five forms: CSV and JSON carry the values, Markdown, HTML and terminal text what is shown of them.

All come from one pandas frame. An unknown value is an empty cell in CSV, null in JSON, a dash where it is shown.
pandas is imported when a frame is made: whoever only shows cells does without.
"""

import functools
import html
import json
import math
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from rich.cells import cell_len

from results.tables.figures import NOTHING, visible

if typing.TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, typing.Any]  # a row: values by column name, None for the unknown
Cells = list[list[str]]  # the header, then rows, as shown
FORMS = ("table", "csv", "md", "html", "json")
DTYPES = {bool: "boolean", int: "Int64", float: "Float64", str: "str"}
GAP = "  "
NARROWEST = 12  # of a shortened word: less tells nobody which it is


@dataclass(frozen=True, kw_only=True)
class Column:
    """`name`, `unit` and `meaning` are for CSV and JSON; a column without `header` is in these two alone."""

    name: str
    kind: type
    meaning: str
    unit: str = ""
    count: bool = False  # a float that is whole, but for the mean of several: written as a whole number where it is one
    header: str | None = None
    write: Callable[[typing.Any], str] = str
    link: bool = False  # a path, shown as a link where there are links
    show: Callable[[Record], str] | None = None  # instead of `write`, where a cell says more than its own value

    def cell(self, record: Record) -> str:
        if self.show is not None:
            return visible(self.show(record))
        value = record.get(self.name)
        return NOTHING if value is None else visible(self.write(value))


@dataclass(frozen=True, kw_only=True)
class Table:
    """`notes` stand under it in every form but CSV, where the columns say what must not be lost."""

    name: str
    title: str
    columns: Sequence[Column]
    records: Sequence[Record]
    notes: Sequence[str] = ()
    footer: int = 0  # how many of the last records sum up those before

    @functools.cached_property
    def frame(self) -> "pd.DataFrame":
        """Typed columns, in order; the unknown, and a number that is none, as NA."""
        import pandas as pd

        return pd.DataFrame(
            {
                column.name: pd.array(
                    [_known(record.get(column.name)) for record in self.records], dtype=DTYPES[column.kind]
                )
                for column in self.columns
            }
        )

    @functools.cached_property
    def objects(self) -> list[dict[str, typing.Any]]:
        """The frame's rows as plain values, None for NA."""
        plain = {
            name: [None if unknown else value for value, unknown in zip(values, values.isna(), strict=True)]
            for name, values in self.frame.items()
        }
        return [
            {column.name: _plain(plain[column.name][i], column) for column in self.columns}
            for i in range(len(self.frame))
        ]

    @property
    def cells(self) -> Cells:
        return cells_of(self.columns, self.objects)

    def render(self, form: str, width: int | None = None) -> str:
        return {
            "table": lambda: self.text(width),
            "csv": self.csv,
            "md": self.markdown,
            "html": self.page,
            "json": self.json,
        }[form]()

    def csv(self) -> str:
        """Floats with the shortest digits that give the same number again."""
        import pandas as pd

        counts = {
            column.name: pd.Series([record[column.name] for record in self.objects], dtype=object)
            for column in self.columns
            if column.count
        }
        frame = self.frame.assign(**counts)
        return str(frame.to_csv(index=False, lineterminator="\n"))

    def json(self) -> str:
        told = {
            "schema_version": 1,
            "table": self.name,
            "title": self.title,
            "columns": [{"name": one.name, "unit": one.unit, "meaning": one.meaning} for one in self.columns],
            "rows": self.objects,
            "notes": list(self.notes),
        }
        return json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def text(self, width: int | None = None) -> str:
        title, *notes = (_filled(visible(one), width) for one in (self.title, *self.notes))
        return "\n\n".join([title, plain_table(self.cells, width).rstrip(), *notes]) + "\n"

    def markdown(self) -> str:
        lines = _markdown_lines(self._words(markdown_word, lambda path: f"[info]({quote(path)})")).rstrip()
        parts = [
            f"**{markdown_word(visible(self.title))}**",
            lines,
            *(markdown_word(visible(one)) for one in self.notes),
        ]
        return "\n\n".join(parts) + "\n"

    def _words(self, word: Callable[[str], str], link: Callable[[str], str]) -> Cells:
        """The cells, each written by `word`, or by `link` where it is a path."""
        header, *rows = self.cells
        writes = [link if column.link else word for column in self.columns if column.header is not None]
        shown = [
            [word(cell) if cell == NOTHING else write(cell) for write, cell in zip(writes, row, strict=True)]
            for row in rows
        ]
        return [[word(cell) for cell in header], *shown]

    def html(self) -> str:
        """A table element to stand in any page."""
        header, *rows = self._words(_escaped, lambda path: f'<a href="{quote(path)}">info</a>')
        last = len(rows) - self.footer
        lines = ["<table>", f"<caption>{_escaped(self.title)}</caption>", "<thead>"]
        lines += ["<tr>" + "".join(f'<th scope="col">{cell}</th>' for cell in header) + "</tr>", "</thead>"]
        for tag, part in (("tbody", rows[:last]), ("tfoot", rows[last:])):
            if part:
                lines += [f"<{tag}>", *(_html_row(row) for row in part), f"</{tag}>"]
        return "\n".join([*lines, "</table>"]) + "\n"

    def page(self) -> str:
        """The table and its notes as a page that opens without network."""
        title = _escaped(self.title)
        lines = ["<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">', f"<title>{title}</title>"]
        lines += [
            '<meta name="viewport" content="width=device-width">',
            f"<style>\n{STYLE}</style>",
            "</head>",
            "<body>",
        ]
        lines += [f'<div class="wide" role="region" aria-label="{title}" tabindex="0">', self.html().rstrip(), "</div>"]
        lines += [f"<p>{_escaped(note)}</p>" for note in self.notes]
        return "\n".join([*lines, "</body>", "</html>"]) + "\n"


STYLE = """\
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 75rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { font-weight: 600; text-align: left; padding: .4rem .6rem; }
th, td { padding: .35rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; white-space: normal; }
thead th { border-bottom: 2px solid #8888; vertical-align: bottom; }
tbody th { font-weight: 400; }
tfoot th, tfoot td { font-weight: 600; }
p { max-width: 60rem; opacity: .8; font-size: .9em; }
"""


def _filled(text: str, width: int | None) -> str:
    return text if width is None else textwrap.fill(text, width, break_on_hyphens=False)


def _known(value: typing.Any) -> typing.Any:
    """None for a number that is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: typing.Any, column: Column) -> typing.Any:
    if value is None:
        return None
    return int(value) if column.count and value == int(value) else column.kind(value)


def cells_of(columns: Sequence[Column], records: Sequence[Record]) -> Cells:
    shown = [column for column in columns if column.header is not None]
    return [
        [str(column.header) for column in shown],
        *([column.cell(record) for column in shown] for record in records),
    ]


def markdown_word(text: str) -> str:
    """Text that Markdown shows as it is. Underscores inside of a word need nothing.

    >>> print(markdown_word("a|b <i>*x*</i> [l](u) `c` int6_mixed _x_"))
    a\\|b \\<i>\\*x\\*\\</i> \\[l\\](u) \\`c\\` int6_mixed \\_x\\_
    """
    inside = [
        one == "_" and 0 < i < len(text) - 1 and text[i - 1].isalnum() and text[i + 1].isalnum()
        for i, one in enumerate(text)
    ]
    return "".join(
        "\\" + one if one in "\\|<*`[]~_&" and not fine else one for one, fine in zip(text, inside, strict=True)
    )


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """Cells that are Markdown already, but for the bar that would end them.

    >>> print(markdown_table([["a", "b"], ["1", "x|y"]]), end="")
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    return _markdown_lines([[cell.replace("|", "\\|") for cell in row] for row in cells])


def _markdown_lines(cells: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]]) + "\n"


def _html_row(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"


def _escaped(text: str) -> str:
    return html.escape(visible(text))


def plain_table(cells: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Columns aligned by spaces, the first to the left, the others to the right.

    In a narrow place headers are broken at their spaces, the first column is shortened in its middle, and what still
    has no room goes on below, with the first column again.
    """
    if width is None:
        return _block(cells, [[cell] for cell in cells[0]])
    heads = (
        [cell.split() or [""] for cell in cells[0]] if _needs(cells, cells[0]) > width else [[one] for one in cells[0]]
    )
    most = max(NARROWEST, width // 3)
    rows = [cells[0], *([shortened(row[0], most), *row[1:]] for row in cells[1:])]
    widths = [max(map(cell_len, [*head, *(row[i] for row in rows[1:])])) for i, head in enumerate(heads)]
    blocks: list[list[int]] = [[]]
    for i in range(1, len(widths)):
        if blocks[-1] and widths[0] + sum(len(GAP) + widths[j] for j in [*blocks[-1], i]) > width:
            blocks.append([])
        blocks[-1].append(i)
    return "\n".join(
        _block([[row[i] for i in (0, *block)] for row in rows], [heads[i] for i in (0, *block)]) for block in blocks
    )


def _needs(cells: Sequence[Sequence[str]], header: Sequence[str]) -> int:
    return sum(max(cell_len(row[i]) for row in cells) for i in range(len(header))) + len(GAP) * (len(header) - 1)


def _block(cells: Sequence[Sequence[str]], heads: Sequence[Sequence[str]]) -> str:
    """`heads` has the lines of each column's header, which end at the bottom."""
    deep = max(map(len, heads))
    lines = [[["", *head][max(0, i - deep + len(head) + 1)] for head in heads] for i in range(deep)]
    rows = [*lines, *cells[1:]]
    widths = [max(cell_len(row[i]) for row in rows) for i in range(len(heads))]
    text = (
        GAP.join(_padded(cell, width, left=i == 0) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in text) + "\n"


def _padded(cell: str, width: int, left: bool) -> str:
    space = " " * (width - cell_len(cell))
    return cell + space if left else space + cell


def shortened(text: str, most: int) -> str:
    """Names differ at both ends, so that the middle goes.

    >>> shortened("int6_ablation.steps_mixed", 15)
    'int6_ab…s_mixed'
    """
    if cell_len(text) <= most:
        return text
    half = (most - 1) // 2
    return (
        f"{text[: most - 1 - half]}…{text[-half:]}" if text.isascii() else f"{text[: half // 2]}…{text[-(half // 2) :]}"
    )
