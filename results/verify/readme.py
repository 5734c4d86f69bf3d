"""The claims of a README.md: its headline and its tables with a row a seed. Its prose is not read."""

import re
from dataclasses import dataclass, field

from results.untrusted import plain
from results.verify.claim import Claim, of_text
from results.verify.document import Claims, seed_of
from results.verify.words import BPB, LARGEST, MEAN, ONE, SD, Meaning, meaning

HEAD_LINES = 40  # of a README, in which a headline can stand
MAX_LINE = 4000
MAX_ROWS = 400  # of a table
MAX_COLUMNS = 40
SCORE = re.compile(
    r"(?:\bval[_ -]?bpb\b|\bbpb\b)[^\d|]{0,12}?(\d\.\d{2,12})(?!\d)"
    r"|(?<![\d.])(\d\.\d{3,12})\s*\**\s*(?:val[_ ]?)?bpb\b",
    re.IGNORECASE,
)
SPREAD = re.compile(r"(?:\bstd\b|\bsd\b|\bstdev\b|\u03c3|\u00b1)[^\d|]{0,6}?(0?\.\d{3,12})", re.IGNORECASE)
SIZE = re.compile(r"(\d{1,3}\.\d{1,6}\s*(?:MB|MiB)\b|\d{1,3}(?:,\d{3}){2}\s*(?:bytes|B)\b)(?!\s*(?:limit|cap|budget))")
SEEDS = re.compile(r"\b(\d{1,3})[- ]seeds?\b", re.IGNORECASE)
ONE_SEED = re.compile(r"\bseed[ =:]?\s*(\d{1,10})\b", re.IGNORECASE)
FOREIGN_LINE = re.compile(
    r"\b(?:vs\.?|versus|baseline|beats?|previous|prior|over|improves?|improvement|delta|was|record of)\b", re.IGNORECASE
)
MEAN_ROWS, SD_ROWS = ("mean", "average", "avg"), ("std", "sd", "stdev", "std dev", "sample sd", "sample std")


@dataclass
class Table:
    line: int  # of its head
    heads: list[str]
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def claims_of_readme(text: str, place: str) -> tuple[Claims, list[tuple[str, int]]]:
    """The claims, and each `N-seed` of the headline with its place."""
    found, counts = Claims(), []
    lines = [line[:MAX_LINE] for line in text.splitlines()]
    open_lines = _outside_of_code(lines)
    for number, line in open_lines:
        if number <= HEAD_LINES and _is_headline(line):
            where = f"{place}:{number}"
            found.claims += _headline(where, line)
            counts += [(f"{where} seeds", int(one[1])) for one in SEEDS.finditer(line)]
    seeds: list[int] = []
    for table in _tables(open_lines):
        column = next((i for i, head in enumerate(table.heads) if _words(head) in ("seed", "seeds")), None)
        if column is not None:
            seeds += _seed_table(table, column, place, found)
    if seeds:
        found.seeds, found.seeds_place = list(dict.fromkeys(seeds)), f"{place}: the seed table"
    return found, counts


def _outside_of_code(lines: list[str]) -> list[tuple[int, str]]:
    found, fence = [], ""
    for number, line in enumerate(lines, 1):
        mark = line.lstrip()[:3]
        if mark in ("```", "~~~"):
            fence = "" if fence == mark else fence or mark
        elif not fence:
            found.append((number, line))
    return found


def _is_headline(line: str) -> bool:
    """The title, or a line that opens in bold, with a score in it."""
    opens = line.startswith("# ") or line.lstrip().startswith("**")
    return opens and not line.lstrip().startswith("|") and SCORE.search(line) is not None


def _headline(where: str, line: str) -> list[Claim]:
    score = SCORE.search(line)
    if score is None:
        return []
    one = ONE_SEED.search(line)
    single = one is not None and SEEDS.search(line) is None and "mean" not in line.lower()
    over, seed = (ONE, int(one[1])) if single and one is not None else (MEAN, None)
    # What is told of another's score stands behind such a word; ours stands first.
    before = FOREIGN_LINE.split(line[score.end() :])[0]
    found = [of_text(f"{where} val_bpb", Meaning(BPB, None, 1.0), over, seed, score[1] or score[2])]
    if spread := SPREAD.search(before):
        found.append(of_text(f"{where} sd", Meaning(BPB, None, 1.0), SD, None, spread[1]))
    if size := SIZE.search(before):
        found.append(of_text(f"{where} artifact", Meaning("artifact_bytes", None, 1.0), LARGEST, None, size[1]))
    return [claim for claim in found if claim is not None]


def _tables(lines: list[tuple[int, str]]) -> list[Table]:
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


def _words(text: str) -> str:
    return " ".join(re.sub(r"[*`_~]", "", text).lower().split())


def _seed_table(table: Table, column: int, place: str, found: Claims) -> list[int]:
    """Its claims go to `found`; the seeds of its rows. One with a seed twice is of several configurations."""
    seeds: list[int] = []
    if not any(meaning(head) for head in table.heads):
        return seeds  # of the gates, say: nothing in it is a seed's figure
    named = [seed_of(_words(cells[column])) for _, cells in table.rows if column < len(cells)]
    if len(set(named) - {None}) < len([seed for seed in named if seed is not None]):
        found.other.append(
            f"the table at line {table.line} has a seed twice: which rows are this submission's, it does not say"
        )
        return seeds
    for number, cells in table.rows:
        if column >= len(cells):
            continue
        label = _words(cells[column])
        seed = seed_of(label)
        over = ONE if seed is not None else MEAN if label.startswith(MEAN_ROWS) else SD if label in SD_ROWS else None
        if over is None:
            continue
        if seed is not None:
            seeds.append(seed)
        for head, cell in list(zip(table.heads, cells, strict=False)):
            shown = meaning(head)
            if shown is None or head == table.heads[column]:
                continue
            claim = of_text(f"{place}:{number} {plain(head, 30)}", shown, over, seed, cell)
            if claim is not None:
                found.claims.append(claim)
    return seeds
