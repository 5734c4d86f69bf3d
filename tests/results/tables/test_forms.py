"""One table in five forms: values survive, words do no harm, and what must be known is in each of them."""

import csv
import html.parser
import io
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from results.tables import ablation, leaderboard, seeds
from results.tables.figures import NOTHING, short_bits, visible
from results.tables.render import FORMS, Column, Table, described
from results.tables.terminal import plain_table, shortened

FLOATS = st.floats(allow_nan=True, allow_infinity=True) | st.none()
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HOSTILE = [
    "a|b",
    "a\\|b",
    "line\nbreak",
    "\r\x00\x1b[31mred\x1b[2J",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "*bold* `code` [link](javascript:x) ![i](u) _it_ ~no~ &amp;",
    "\u202egnp.exe",
    "a\u2028b\u2029c",
    "'quoted', \"twice\"",
    "x" * 5000,
    "模型" * 30,
    "",
    " ",
]


def table(records, notes=(), title="A title"):
    columns = (
        Column(name="name", kind=str, meaning="a name", header="Name"),
        Column(name="score", kind=float, unit="bits/byte", meaning="a score", header="Score", write=short_bits),
        Column(name="steps", kind=float, count=True, meaning="a count", header="Steps", write=str),
        Column(name="seed", kind=int, meaning="not shown"),
        Column(name="real", kind=bool, meaning="not shown"),
    )
    return Table(name="t", title=title, columns=columns, records=records, notes=notes)


def record(name="a", score=1.5, steps=2.0, seed=3, real=True):
    return {"name": name, "score": score, "steps": steps, "seed": seed, "real": real}


RECORDS = st.lists(
    st.builds(
        record,
        name=WORDS | st.none(),
        score=FLOATS,
        steps=FLOATS,
        seed=st.integers(-(2**63), 2**63 - 1) | st.none(),
        real=st.booleans() | st.none(),
    ),
    max_size=6,
)


def known(value):
    """What a value is in every form."""
    if isinstance(value, str):
        return visible(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(records=RECORDS)
def test_csv_read_back_gives_the_same_values(records):
    """Every number to the last bit, every name in one line, and nothing for what is not known."""
    rows = list(csv.DictReader(io.StringIO(table(records).csv(), newline="")))
    assert len(rows) == len(records)
    for row, one in zip(rows, records, strict=True):
        assert row["name"] == (known(one["name"]) or "")
        for key, kind in (("score", float), ("steps", float), ("seed", int)):
            assert (kind(row[key]) if row[key] else None) == known(one[key])
        assert row["real"] == ("" if one["real"] is None else str(one["real"]))


@given(records=RECORDS)
def test_pandas_reads_the_same_numbers(records):
    """The reader that most people use gets them too, and NA for the unknown."""
    told = table(records).csv()
    if not records:
        return
    found = pd.read_csv(io.StringIO(told), usecols=["score"])["score"]
    for value, one in zip(found, records, strict=True):
        assert pd.isna(value) if known(one["score"]) is None else value == one["score"]


@given(records=RECORDS)
def test_json_has_null_and_never_nan(records):
    """Strict JSON: the values, null for what is not known or is no number, whole counts as whole numbers."""

    def refuse(name):
        raise AssertionError(name)

    told = json.loads(table(records).json(), parse_constant=refuse)
    assert told["schema_version"] == 1 and [column["name"] for column in told["columns"]] == [*record()]
    assert told["rows"] == [{key: known(value) for key, value in one.items()} for one in records]
    counts = [row["steps"] for row in told["rows"] if row["steps"] is not None]
    assert all(isinstance(value, int) == (value == int(value)) for value in counts)


class Reader(html.parser.HTMLParser):
    """Tags in order, and the text of each cell."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.depth = [], [], 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("td", "th", "caption"):
            self.cells.append("")
            self.depth = 1

    def handle_endtag(self, tag):
        self.depth = 0 if tag in ("td", "th", "caption") else self.depth

    def handle_data(self, data):
        if self.depth:
            self.cells[-1] += data


def tags_of(text):
    return [tag for tag, _ in Reader(text).tags]


@given(name=WORDS | st.sampled_from(HOSTILE))
def test_html_holds_any_name_as_text(name):
    """No name adds a tag or an attribute, and each is shown whole, without control characters."""
    told = table([record(name)], title=name, notes=[name])
    assert tags_of(told.page()) == tags_of(table([record("a")], title="a", notes=["a"]).page())
    cells = Reader(told.html()).cells
    assert cells[0] == visible(name) and cells[4] == visible(name)


def test_html_is_a_table_with_a_meaning():
    """Caption, column and row headers with their scope, a footer for the mean; words are read from the left."""
    told = Table(**{**table([record("a"), record("Mean")]).__dict__, "footer": 1}).html()
    tags = Reader(told).tags
    assert [tag for tag, _ in tags if tag in ("caption", "thead", "tbody", "tfoot")] == [
        "caption",
        "thead",
        "tbody",
        "tfoot",
    ]
    assert [rest.get("scope") for tag, rest in tags if tag == "th"] == ["col"] * 3 + ["row", "row"]


def cells_of_markdown(line):
    """A line of a table as GitHub splits it: at bars that no backslash precedes, escapes taken away."""
    parts = re.findall(r"((?:\\.|[^|\\])*)\|", line.strip().removeprefix("|"))
    return [re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", part).strip() for part in parts]


@given(name=WORDS | st.sampled_from(HOSTILE))
def test_markdown_keeps_any_name_in_its_cell(name):
    """A name gives one line with as many cells as the header, and reads as it is."""
    lines = table([record(name)]).markdown().splitlines()
    body = [line for line in lines if line.startswith("|")]
    assert len(body) == 3 and len(cells_of_markdown(body[2])) == 3
    assert cells_of_markdown(body[2])[0] == visible(name).strip()


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("width", [None, 80, 20])
def test_no_name_breaks_the_terminal(name, width):
    """Nothing that a terminal acts on is printed; a table in a place of 80 columns is no wider."""
    text = table([record(name), record("b")], title=name).text(width)
    assert all(one.isprintable() or one == "\n" for one in text)
    if width == 80 and name.isascii():
        assert max(map(len, text.splitlines())) <= 80


@given(
    rows=st.lists(st.lists(st.text("abc ", max_size=30), min_size=5, max_size=5), min_size=1, max_size=4),
    width=st.integers(30, 200),
)
def test_a_narrow_place_loses_no_figure(rows, width):
    """Whatever the width, every cell but the shortened first is there to be read, in its order."""
    text = plain_table([["one", "two", "three", "four", "five"], *rows], width)
    words = " ".join(text.split())
    for row in rows:
        for cell in row[1:]:
            assert " ".join(cell.split()) in words


def test_blocks_begin_with_the_first_column():
    """What has no room beside goes on below, under the same names."""
    cells = [["Variant", *(f"column {i}" for i in range(9))], ["base", *["1.23456789"] * 9]]
    blocks = plain_table(cells, 80).split("\n\n")
    assert len(blocks) == 2 and all(block.splitlines()[-1].startswith("base ") for block in blocks)


@given(text=st.text(max_size=80), most=st.integers(12, 40))
def test_a_shortened_name_keeps_both_ends(text, most):
    """It is no longer than asked, and whole where it fits."""
    name = visible(text)
    told = shortened(name, most)
    assert cell_len(told) <= most
    assert told == name or (told[0] == name[0] and told[-1] == name[-1])


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_table_has_its_header(form):
    """No rows are no reason to fail."""
    assert "core" in table([]).render(form)


def test_the_unknown_is_a_dash_where_it_is_shown():
    """None and NaN are dashes, never zeros."""
    shown = table([record(score=None), record(score=math.nan, steps=math.inf)]).cells
    assert [row[1] for row in shown[1:]] == [NOTHING, NOTHING] and shown[2][2] == NOTHING


@pytest.mark.parametrize(
    "columns", [seeds.COLUMNS, ablation.COMPARED, leaderboard.COLUMNS], ids=["seeds", "ablation", "board"]
)
def test_the_documented_columns_are_the_columns(columns):
    """docs/results.md shows every column of each table, with unit and meaning."""
    assert described(columns) in (Path(__file__).resolve().parents[3] / "docs" / "results.md").read_text(
        encoding="utf-8"
    )
