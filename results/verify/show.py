"""The check of a folder as text: a line a claim, a line a gate, and under a line that does not pass, why."""

import html
import textwrap
from collections.abc import Sequence

from results.tables import markdown_table
from results.untrusted import plain
from results.verify.check import Checked
from results.verify.finding import AGREES, FAIL, PASS, UNKNOWN, Finding

WIDTH = 100  # where there is no terminal
NARROWEST = 6  # of a column
CLAIM_HEAD = ["Claim", "Says", "Derived", "Source", "Verdict"]
GATE_HEAD = ["Gate", "Value", "Limit", "Margin", "Seed", "Verdict"]


def table_text(checked: Checked, columns: int | None = None) -> str:
    """As wide as the terminal, where there is one."""
    width = columns or WIDTH
    claims: list[tuple[list[str], str]] = []
    last = ""
    for one in in_order(checked.findings):
        heading, label = placed(one.place)
        if heading != last:
            claims.append(([plain(heading, width)], ""))
        last = heading
        why = "" if one.verdict == PASS and one.why == AGREES else one.why
        cells = [f"  {plain(label, 34)}", plain(one.says, 19), one.derived, plain(one.source, 38), one.verdict]
        claims.append((cells, why))
    gates = [
        (
            [one.name, plain(one.value, 30), plain(one.limit, 38), one.margin, _seed(one.seed), one.verdict],
            "; ".join(filter(None, [one.why, f"at {one.source}" if ":" in one.source and one.verdict != PASS else ""])),
        )
        for one in checked.gates
    ]
    parts = [
        "\n".join(textwrap.wrap(f"{checked.folder}, policy {checked.policy}, derived from {checked.basis}", width)),
        _lines(CLAIM_HEAD, claims, width),
        _lines(GATE_HEAD, gates, width),
        "\n".join(line for note in checked.notes for line in _wrapped(f"note: {plain(note, 400)}", width)),
        "\n".join(textwrap.wrap(summary(checked), width)),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="      ")


def placed(place: str) -> tuple[str, str]:
    """(heading, label) of a place: what several claims share, and the claim's own.

    >>> placed("submission.json: seed_results.42.steps"), placed("README.md:13 Steps"), placed("train_gpt.py")
    (('submission.json: seed_results.42', 'steps'), ('README.md:13', 'Steps'), ('files', 'train_gpt.py'))
    """
    document, colon, inside = place.partition(": ")
    if colon:
        table, dot, label = inside.rpartition(".")
        return (f"{document}: {table}", label) if dot and " " not in inside else (document, inside)
    line, space, label = place.partition(" ")
    return (line, label) if space else ("files", place)


def in_order(findings: Sequence[Finding]) -> list[Finding]:
    """Claims of one document together, the documents in the order in which they come first."""
    documents = list(dict.fromkeys(one.place.partition(":")[0] for one in findings))
    return sorted(findings, key=lambda one: documents.index(one.place.partition(":")[0]))


def _seed(seed: int | None) -> str:
    return "" if seed is None else str(seed)


def _lines(head: Sequence[str], rows: Sequence[tuple[list[str], str]], width: int) -> str:
    """Aligned columns that fit a terminal; a reason stands under its line, a heading alone on its own."""
    full = [list(head), *(cells for cells, _ in rows if len(cells) == len(head))]
    widths = [max(len(row[i]) for row in full) for i in range(len(head))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths[:-1]) > NARROWEST:
        widths[widths.index(max(widths[:-1]))] -= 1
    text = []
    for cells, why in [(list(head), ""), *rows]:
        if len(cells) < len(head):
            text += textwrap.wrap(cells[0], width)
            continue
        indent = "  " if cells[0].startswith(" ") else ""
        folded = [
            textwrap.wrap(cell.strip(), room, initial_indent=indent, subsequent_indent=2 * indent)
            if i == 0
            else textwrap.wrap(cell, room)
            for i, (cell, room) in enumerate(zip(cells, widths, strict=True))
        ]
        folded = [one or [""] for one in folded]
        for i in range(max(len(one) for one in folded)):
            parts = [(one[i] if i < len(one) else "").ljust(room) for one, room in zip(folded, widths, strict=True)]
            text.append("  ".join(parts).rstrip())
        if why:
            told = plain(why, 400) if cells[-1] != PASS else f"({plain(why, 400)})"
            text += textwrap.wrap(told, width, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(text)


def markdown_text(checked: Checked) -> str:
    claims = [[*CLAIM_HEAD, "Why"]] + [
        [one.place, one.says, one.derived, one.source, one.verdict, one.why] for one in in_order(checked.findings)
    ]
    gates = [[*GATE_HEAD, "Source", "Why"]] + [
        [one.name, one.value, one.limit, one.margin, _seed(one.seed), one.verdict, one.source, one.why]
        for one in checked.gates
    ]
    parts = [
        f"# {_cell(checked.folder)}: policy {_cell(checked.policy)}",
        f"Derived from {checked.basis}.",
        markdown_table([[_cell(cell) for cell in row] for row in claims]),
        markdown_table([[_cell(cell) for cell in row] for row in gates]),
        "\n".join(f"- {_cell(note)}" for note in checked.notes),
        summary(checked),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _cell(text: str) -> str:
    """A foreign text in Markdown: no markup of its own."""
    return html.escape(plain(text, 400), quote=False).replace("`", "'").replace("*", "\\*").replace("[", "\\[")


def summary(checked: Checked) -> str:
    """The last line: the counts, and what they come to."""
    told = f"{checked.count(FAIL)} failed, {checked.count(UNKNOWN)} unknown, {checked.count(PASS)} passed"
    if checked.passed:
        return f"{told}: every claim is supported and every gate of {checked.policy} passed"
    if checked.count(FAIL):
        return f"{told}: not supported as it stands"
    return f"{told}: nothing is contradicted; what is unknown does not pass"
