"""The claims in the tables of a README.md: a row a seed, a row a metric, or one row that is this submission's."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from results.untrusted import plain
from results.verify.claim import Claim, of_text
from results.verify.document import Claims, seed_of
from results.verify.words import BPB, LARGEST, MEAN, ONE, SCORES, SD, SMALLEST, Meaning, meaning

MAX_ROWS = 400  # of a table
MAX_COLUMNS = 40
MEAN_ROWS, SD_ROWS = ("mean", "average", "avg"), ("std", "sd", "stdev", "std dev", "sample sd", "sample std")
SEED_HEAD = {"seed", "seeds", "random", "rng", "no", "nr", "id", "number"}
SCORE_HEADS = ("final", "score", "result", "final score", "final result")
METRIC_HEADS = ("", "metric", "metrics", "measure", "figure", "quantity", "statistic", "item", "name", "key", "field")
VALUE_HEADS = ("value", "values", "result", "results", "ours", "this submission", "this pr", "submission", "score")
VALUE_METRICS = (*SCORES, "val_loss", "artifact_bytes", "code_bytes")
OURS, OURS_TOO = (
    {"ours", "our", "this"},
    {"submission", "pr", "work", "seed", "seeds", "mean", "final", "result", "model"},
)
ONE_SEED = re.compile(r"\bseed[ =:#]{0,3}(\d{1,10})\b", re.IGNORECASE)
SCORE_CELL = re.compile(r"\d\.\d{3,12}")


@dataclass
class Table:
    line: int  # of its head
    heads: list[str]
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def tables_of(lines: list[tuple[int, str]]) -> list[Table]:
    tables: list[Table] = []
    current: Table | None = None
    for (number, line), (_, following) in zip(lines, [*lines[1:], (0, "")], strict=True):
        if "|" not in line:
            current = None
        elif current is None:
            if {"|", "-"} <= set(following) <= set("|-: \t"):
                current = Table(number, cells_of(line)[:MAX_COLUMNS])
                tables.append(current)
        elif number > current.line + 1 and len(current.rows) < MAX_ROWS:
            current.rows.append((number, cells_of(line)))
    return tables


def cells_of(line: str) -> list[str]:
    """
    >>> cells_of("| 42 | a\\\\|b |")
    ['42', 'a|b']
    """
    inner = line.strip().removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", inner)]


def words_of(text: str) -> str:
    return " ".join(re.sub(r"[*`_~]|<[^<>]{0,80}>", "", text).lower().split())


def claims_of_table(table: Table, place: str, found: Claims) -> list[int]:
    """Its claims go to `found`; the seeds of its rows."""
    for column, head in enumerate(table.heads):
        names = set(re.findall(r"[a-z]+", words_of(head)))
        if names & {"seed", "seeds"} and names <= SEED_HEAD:
            return _seed_table(table, column, place, found)
    if table.heads and words_of(table.heads[0]) in METRIC_HEADS:
        _metric_table(table, place, found)
    else:
        _own_rows(table, place, found)
    return []


def _meaning_of(table: Table, column: int) -> Meaning | None:
    """Of a head: what it says, or a score where it says no more than that the number is the final one."""
    head = table.heads[column]
    if words_of(head) not in SCORE_HEADS:
        return meaning(head)
    cells = [cells[column] for _, cells in table.rows if column < len(cells) and re.search(r"\d", cells[column])]
    scores = cells and all(SCORE_CELL.fullmatch(words_of(cell)) for cell in cells)
    return Meaning(BPB, None, 1.0) if scores else None


def _seed_table(table: Table, column: int, place: str, found: Claims) -> list[int]:
    """One with a seed twice is of several configurations."""
    seeds: list[int] = []
    shown = [None if i == column else _meaning_of(table, i) for i in range(len(table.heads))]
    if not any(shown):
        return seeds  # of the gates, say: nothing in it is a seed's figure
    named = [seed_of(words_of(cells[column])) for _, cells in table.rows if column < len(cells)]
    if len(set(named) - {None}) < len([seed for seed in named if seed is not None]):
        found.unread.append(
            f"the table at line {table.line} has a seed twice: which rows are this submission's, it does not say"
        )
        return seeds
    for number, cells in table.rows:
        if column >= len(cells):
            continue
        label = words_of(cells[column])
        seed = seed_of(label)
        over = ONE if seed is not None else _over(label)
        if over is None:
            continue
        if seed is not None:
            seeds.append(seed)
        for head, cell, what in zip(table.heads, cells, shown, strict=False):
            if what is not None and (over != SMALLEST or what.metric == BPB):
                _take(f"{place}:{number} {plain(head, 30)}", what, over, seed, cell, found)
    return seeds


def _over(label: str) -> str | None:
    """What a row beside those of the seeds, or a column, is over."""
    if label.startswith(MEAN_ROWS):
        return MEAN
    if label in SD_ROWS:
        return SD
    return SMALLEST if label in ("best", "best seed", "min") else None


def _metric_table(table: Table, place: str, found: Claims) -> None:
    """A row a figure; a column the value, or one a seed and their mean."""
    columns: list[tuple[int, str | None, int | None]] = []
    for i, head in enumerate(table.heads[1:], 1):
        label = words_of(head)
        if (seed := seed_of(label)) is not None:
            columns.append((i, ONE, seed))
        elif (over := _over(label)) is not None or label in VALUE_HEADS or (not label and len(table.heads) == 2):
            columns.append((i, over, None))
    for number, cells in table.rows:
        what = meaning(cells[0]) if cells else None
        if what is None or what.metric not in VALUE_METRICS:
            continue
        for i, over, seed in columns:
            if i < len(cells) and not re.match(r"[~\u2248<\u2264>]", words_of(cells[i])):
                label = plain(re.sub(r"[*`]", "", cells[0]), 30) + ("" if seed is None else f" {seed}")
                one = None if over else ONE_SEED.search(f"{cells[0]} {cells[i]}")
                whole = LARGEST if what.metric == "artifact_bytes" else MEAN
                put = ONE if one is not None else over or what.over or whole
                _take(f"{place}:{number} {label}", what, put, seed if one is None else int(one[1]), cells[i], found)


def _own_rows(table: Table, place: str, found: Claims) -> None:
    """The row that says it is ours, in a table of several submissions or runs."""
    for number, cells in table.rows:
        names = set(re.findall(r"[a-z]+", words_of(cells[0]))) if cells else set()
        if names & OURS and names <= OURS | OURS_TOO and not ONE_SEED.search(words_of(cells[0])):
            for head, cell in list(zip(table.heads, cells, strict=False))[1:]:
                what = meaning(head)
                if what is not None and what.metric == BPB and what.over in (None, MEAN):
                    _take(f"{place}:{number} {plain(head, 30)}", what, MEAN, None, cell, found)


def _take(where: str, what: Meaning, over: str, seed: int | None, cell: str, found: Claims) -> None:
    claim: Claim | None = of_text(where, what, over, seed, cell)
    if claim is not None:
        found.claims.append(claim)


def score_cells(table: Table) -> Sequence[tuple[int, str]]:
    """(line, cell) of every cell that stands under or beside a word for bits per byte."""
    heads = [i for i in range(len(table.heads)) if "bpb" in table.heads[i].lower() or _is_score(table, i)]
    return [
        (number, cell)
        for number, cells in table.rows
        for i, cell in enumerate(cells)
        if i in heads or (cells and "bpb" in cells[0].lower())
    ]


def _is_score(table: Table, column: int) -> bool:
    what = _meaning_of(table, column)
    return what is not None and what.metric in SCORES
