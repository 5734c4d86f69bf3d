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

from results.tables.figures import NOTHING, visible
from results.tables.terminal import plain_table

if typing.TYPE_CHECKING:
    import pandas as pd

Record = Mapping[str, typing.Any]  # a row: values by column name, None for the unknown
Cells = list[list[str]]  # the header, then rows, as shown
FORMS = ("table", "csv", "md", "html", "json")
DTYPES = {bool: "boolean", int: "Int64", float: "Float64", str: "str"}
LONG_WORDS = 60  # from here on, a page breaks a cell into lines


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
        return "\n\n".join([title, plain_table(self.cells, width, self._words_at).rstrip(), *notes]) + "\n"

    def markdown(self) -> str:
        lines = _markdown_lines(self._words(markdown_word, lambda path: f"[info]({quote(path)})")).rstrip()
        parts = [
            f"**{markdown_word(visible(self.title))}**",
            lines,
            *(markdown_word(visible(one)) for one in self.notes),
        ]
        return "\n\n".join(parts) + "\n"

    @property
    def _shown(self) -> list[Column]:
        return [column for column in self.columns if column.header is not None]

    @property
    def _words_at(self) -> list[int]:
        """The columns of words, which are read from the left."""
        return [i for i, column in enumerate(self._shown) if column.kind is str]

    def _words(self, word: Callable[[str], str], link: Callable[[str], str]) -> Cells:
        """The cells, each written by `word`, or by `link` where it is a path."""
        header, *rows = self.cells
        writes = [link if column.link else word for column in self._shown]
        shown = [
            [word(cell) if cell == NOTHING else write(cell) for write, cell in zip(writes, row, strict=True)]
            for row in rows
        ]
        return [[word(cell) for cell in header], *shown]

    def html(self) -> str:
        """A table element to stand in any page."""
        header, *rows = self._words(_escaped, lambda path: f'<a href="{quote(path)}">info</a>')
        last = len(rows) - self.footer
        long = {i for row in self.cells for i, cell in enumerate(row) if len(cell) > LONG_WORDS}
        classes = [
            " ".join(["words"] * (not i or i in self._words_at) + ["long"] * (i in long and column.link is False))
            for i, column in enumerate(self._shown)
        ]
        lines = ["<table>", f"<caption>{_escaped(self.title)}</caption>", "<thead>"]
        lines += [_html_row(header, classes, header=True), "</thead>"]
        for tag, part in (("tbody", rows[:last]), ("tfoot", rows[last:])):
            if part:
                lines += [f"<{tag}>", *(_html_row(row, classes) for row in part), f"</{tag}>"]
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
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 90rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { font-weight: 600; text-align: left; padding: .4rem .5rem; }
th, td { padding: .35rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; }
.words { text-align: left; }
.long { white-space: normal; overflow-wrap: anywhere; min-width: 30ch; }
thead th { border-bottom: 2px solid #8888; vertical-align: bottom; }
tbody th { font-weight: 400; }
tfoot th, tfoot td { font-weight: 600; }
p { max-width: 60rem; opacity: .8; font-size: .9em; }
"""


def _filled(text: str, width: int | None) -> str:
    return text if width is None else textwrap.fill(text, width, break_on_hyphens=False)


def _known(value: typing.Any) -> typing.Any:
    """None for a number that is none; words as one line, which a terminal may be shown and any reader of CSV takes."""
    if isinstance(value, str):
        return visible(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: typing.Any, column: Column) -> typing.Any:
    if value is None:
        return None
    return int(value) if column.count and value == int(value) else column.kind(value)


def described(columns: Sequence[Column]) -> str:
    """The columns as docs/results.md shows them."""
    lines = ["| column | unit | shown as | meaning |", "| --- | --- | --- | --- |"]
    lines += [f"| `{one.name}` | {one.unit} | {one.header or ''} | {one.meaning} |" for one in columns]
    return "\n".join(lines) + "\n"


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


def _html_row(row: Sequence[str], classes: Sequence[str], header: bool = False) -> str:
    """Of the header every cell is one; else the first alone."""
    parts = []
    for i, (cell, names) in enumerate(zip(row, classes, strict=True)):
        tag, scope = ("th", ' scope="col"' if header else ' scope="row"') if header or not i else ("td", "")
        parts.append(f"<{tag}{scope}" + (f' class="{names}"' if names else "") + f">{cell}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"


def _escaped(text: str) -> str:
    return html.escape(visible(text))
