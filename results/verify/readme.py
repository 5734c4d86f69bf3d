"""The claims of a README.md: its headline, lines that state a score and nothing else, and its tables.

Its prose is not understood: a number in it that may be a score, and is none of these, is told as not judged.
"""

import re

from results.verify.claim import Claim, of_text
from results.verify.document import Claims
from results.verify.readme_tables import claims_of_table, score_cells, tables_of
from results.verify.words import BPB, LARGEST, MEAN, ONE, SD, Meaning

HEAD_LINES = 40  # of a README, in which a headline can stand
MAX_LINE = 4000
SCORE = re.compile(
    r"(?:\bval[_ -]?bpb\b|\bbpb\b)[^\d|]{0,12}?(\d\.\d{2,12})(?!\d)"
    r"|(?<![\d.])(\d\.\d{2,12})\s*\**\s*(?:val[_ ]?)?bpb\b",
    re.IGNORECASE,
)
SPREAD = re.compile(r"(?:\bstd\b|\bsd\b|\bstdev\b|\u03c3|\u00b1)[^\d|]{0,6}?(0?\.\d{3,12})", re.IGNORECASE)
SIZE = re.compile(r"(\d{1,3}\.\d{1,6}\s*(?:MB|MiB)\b|\d{1,3}(?:,\d{3}){2}\s*(?:bytes|B)\b)(?!\s*(?:limit|cap|budget))")
SEEDS = re.compile(r"\b(\d{1,3})[- ]seeds?\b", re.IGNORECASE)
ONE_SEED = re.compile(r"\bseed[ =:]?\s*(\d{1,10})\b", re.IGNORECASE)
FOREIGN_LINE = re.compile(
    r"\b(?:vs\.?|versus|baseline|beats?|previous|prior|over|improves?|improvement|delta|was|record of)\b", re.IGNORECASE
)
# A line of these words alone, with one score, states the submission's own.
OWN = {
    "val",
    "bpb",
    "score",
    "scores",
    "result",
    "results",
    "final",
    "mean",
    "average",
    "avg",
    "our",
    "ours",
    "this",
    "submission",
    "is",
    "of",
    "the",
}
OWN |= {
    "a",
    "an",
    "at",
    "over",
    "across",
    "seed",
    "seeds",
    "std",
    "sd",
    "stdev",
    "sample",
    "mb",
    "mib",
    "artifact",
    "size",
    "n",
    "we",
    "get",
    "main",
    "headline",
}
# Headings under which such a line stands.
OWN_SECTIONS = OWN | {
    "summary",
    "overview",
    "record",
    "performance",
    "evaluation",
    "metrics",
    "numbers",
    "key",
    "table",
    "and",
}
MARKS = re.compile(r"^[\s>#*+-]*(?:\d{1,3}[.)]\s)?|</?[A-Za-z][^<>]{0,80}>|[*`~]")
LIKE_A_SCORE = re.compile(
    r"(?<![\w.,+\-\u2212\u00b1$])(\d\.\d{3,12})(?![\d.])(?!\s*(?:%|[MKG]i?B|ms|s|sec|seconds|minutes?|x|nats)\b|%)"
)
HIGHEST, LOWEST = 9.0, 0.2  # bits per byte that a score can have; less is a difference


def claims_of_readme(text: str, place: str) -> tuple[Claims, list[tuple[str, int]]]:
    """The claims, and each `N-seed` of the headline with its place."""
    found, counts = Claims(), []
    lines = [line[:MAX_LINE] for line in text.splitlines()]
    open_lines = _outside_of_code(lines)
    tables = tables_of(open_lines)
    rows = {number for table in tables for number in (table.line, *(one for one, _ in table.rows))}
    own = True
    maybe: list[tuple[int, str]] = []
    for number, line in open_lines:
        if number in rows:
            continue
        heading = re.match(r"\s{0,3}(#{1,6})\s", line)
        where = f"{place}:{number}"
        told = _headline(where, line) if number <= HEAD_LINES and _is_headline(line) else []
        told = told or (_statement(where, line) if own or heading else [])
        if told:
            found.claims += told
            counts += [(f"{where} seeds", int(one[1])) for one in SEEDS.finditer(line)]
        if heading is not None:
            own = len(heading[1]) == 1 or _words(line) <= OWN_SECTIONS
        maybe += [(number, one) for one in _scores_in(line)]
    seeds: list[int] = []
    for table in tables:
        seeds += claims_of_table(table, place, found)
        maybe += [(number, one[1]) for number, cell in score_cells(table) for one in LIKE_A_SCORE.finditer(_bare(cell))]
    if seeds:
        found.seeds, found.seeds_place = list(dict.fromkeys(seeds)), f"{place}: the seed table"
    judged = {one for claim in found.claims for one in re.findall(r"\d+\.\d+", claim.says)}
    once = {text: number for number, text in reversed(maybe) if LOWEST < float(text) < HIGHEST and text not in judged}
    found.other = [f"{text} (line {number})" for text, number in sorted(once.items(), key=lambda pair: pair[1])]
    return found, counts


def _bare(line: str) -> str:
    return MARKS.sub("", line)


def _words(line: str) -> set[str]:
    return set(re.findall(r"[a-z]+", _bare(line).lower()))


def _scores_in(line: str) -> list[str]:
    """Every number of a line that may be a score: beside the word, or anywhere where the line has it."""
    bare = _bare(line)
    found = [one[1] or one[2] for one in SCORE.finditer(bare)]
    if re.search(r"\bbpb\b|val_bpb|bits(?: per |/)byte", bare, re.IGNORECASE):
        found += [one[1] for one in LIKE_A_SCORE.finditer(bare)]
    return found


def _statement(where: str, line: str) -> list[Claim]:
    """A heading, a point, a quotation or a sentence that says what the score is, and nothing else."""
    scores = list(dict.fromkeys(_scores_in(line)))
    scores = [one for one in scores if LOWEST < float(one) < HIGHEST]
    words = _words(line)
    if len(scores) != 1 or not words <= OWN or not words & {"bpb", "score"}:
        return []
    one = ONE_SEED.search(SEEDS.sub("", line))
    single = one is not None and "mean" not in words
    over, seed = (ONE, int(one[1])) if single and one is not None else (MEAN, None)
    claim = of_text(f"{where} val_bpb", Meaning(BPB, None, 1.0), over, seed, scores[0])
    return [] if claim is None else [claim, *_beside(where, _bare(line))]


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
    score = SCORE.search(line)
    return opens and not line.lstrip().startswith("|") and score is not None and float(score[1] or score[2]) > LOWEST


def _headline(where: str, line: str) -> list[Claim]:
    score = SCORE.search(line)
    if score is None:
        return []
    one = ONE_SEED.search(line)
    single = one is not None and SEEDS.search(line) is None and "mean" not in line.lower()
    over, seed = (ONE, int(one[1])) if single and one is not None else (MEAN, None)
    # What is told of another's score stands behind such a word; ours stands first.
    before = FOREIGN_LINE.split(line[score.end() :])[0]
    claim = of_text(f"{where} val_bpb", Meaning(BPB, None, 1.0), over, seed, score[1] or score[2])
    return [*([claim] if claim is not None else []), *_beside(where, before)]


def _beside(where: str, text: str) -> list[Claim]:
    """The spread and the size that stand beside a score."""
    found = []
    if spread := SPREAD.search(text):
        found.append(of_text(f"{where} sd", Meaning(BPB, None, 1.0), SD, None, spread[1]))
    if size := SIZE.search(text):
        found.append(of_text(f"{where} artifact", Meaning("artifact_bytes", None, 1.0), LARGEST, None, size[1]))
    return [claim for claim in found if claim is not None]
