"""The check of a folder as text: the verdict, then what failed, what is unknown and what passed; a line a claim, a
line a gate, and under a line that does not pass, why."""

import html
import textwrap
import typing
from collections.abc import Sequence

from results.tables import markdown_table
from results.untrusted import plain
from results.verify.case import Check
from results.verify.check import Checked
from results.verify.finding import AGREES, FAIL, PASS, UNKNOWN, Finding

WIDTH = 100  # where there is no terminal
NARROWEST = 6  # of a column
HEADINGS = ((FAIL, "FAILED"), (UNKNOWN, "UNKNOWN"), (PASS, "PASSED"))
CLAIM_HEAD = ["Claim", "Says", "Derived", "Source", "Verdict"]
GATE_HEAD = ["Gate", "Value", "Limit", "Margin", "Seed", "Verdict"]


def table_text(
    checked: Checked, columns: int | None = None, *, problems: bool = False, allow_unknown: bool = False
) -> str:
    """As wide as the terminal, where there is one. The verdict first, then what stands against it, then the rest."""
    width = columns or WIDTH
    parts = ["\n".join(textwrap.wrap(summary(checked, allow_unknown), width))]
    parts.append(
        "\n".join(textwrap.wrap(f"{checked.folder}, policy {checked.policy}, derived from {checked.basis}", width))
    )
    for verdict, heading in HEADINGS:
        findings = [one for one in checked.findings if one.verdict == verdict]
        gates = [one for one in checked.gates if one.verdict == verdict]
        shared = shared_causes(findings, gates) if verdict != PASS else {}
        if (verdict == PASS and problems) or not findings + gates:
            continue
        parts.append(f"{heading} ({len(findings) + len(gates)})")
        parts += [_cause(why, told, width) for why, told in shared.items()]
        claims = [one for one in findings if one.why not in shared]
        parts.append(_lines(CLAIM_HEAD, _claim_rows(claims, width), width) if claims else "")
        rows = [_gate_row(one) for one in gates if one.why not in shared]
        parts.append(_lines(GATE_HEAD, rows, width) if rows else "")
    parts.append("\n".join(line for note in checked.notes for line in _wrapped(f"note: {plain(note, 400)}", width)))
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def shared_causes(findings: Sequence[Finding], gates: Sequence[Check]) -> dict[str, list[str]]:
    """By reason, what rests on it: of each reason that several lines of one verdict have."""
    told: dict[str, list[str]] = {}
    for one in in_order(findings):
        derived = f", derived {one.derived}" if one.derived else ""
        told.setdefault(one.why, []).append(f"{plain(one.place, 80)} {plain(one.says, 30)}".rstrip() + derived)
    for gate in gates:
        told.setdefault(gate.why, []).append(f"gate {gate.name} {plain(gate.value, 30)}".rstrip())
    return {why: lines for why, lines in told.items() if why and len(lines) > 1}


def _cause(why: str, told: Sequence[str], width: int) -> str:
    """A reason once, with all that rests on it: `submission.json: ` is written before the first of its places only."""
    lines, last = [], ""
    for one in told:
        document, colon, rest = one.partition(": ")
        lines.append(rest if colon and document == last else one)
        last = document if colon else ""
    text = textwrap.wrap(f"{len(told)} times: {plain(why, 400)}", width)
    return "\n".join([*text, *textwrap.wrap("; ".join(lines), width, initial_indent="  ", subsequent_indent="  ")])


def _claim_rows(findings: Sequence[Finding], width: int) -> list[tuple[list[str], str]]:
    rows: list[tuple[list[str], str]] = []
    last = ""
    for one in in_order(findings):
        heading, label = placed(one.place)
        if heading != last:
            rows.append(([plain(heading, width)], ""))
        last = heading
        why = "" if one.verdict == PASS and one.why == AGREES else one.why
        cells = [f"  {plain(label, 34)}", plain(one.says, 19), one.derived, plain(one.source, 38), one.verdict]
        rows.append((cells, why))
    return rows


def _gate_row(one: Check) -> tuple[list[str], str]:
    cells = [one.name, plain(one.value, 30), plain(one.limit, 38), one.margin, _seed(one.seed), one.verdict]
    place = f"at {one.source}" if ":" in one.source and one.verdict != PASS else ""
    return cells, "; ".join(filter(None, [one.why, place]))


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


def markdown_text(checked: Checked, *, problems: bool = False, allow_unknown: bool = False) -> str:
    """The same; what passed has no place among the problems."""
    order = [verdict for verdict, _ in HEADINGS if verdict != PASS or not problems]
    claims = [
        [one.place, one.says, one.derived, one.source, one.verdict, one.why]
        for verdict in order
        for one in in_order(checked.findings)
        if one.verdict == verdict
    ]
    gates = [
        [one.name, one.value, one.limit, one.margin, _seed(one.seed), one.verdict, one.source, one.why]
        for verdict in order
        for one in checked.gates
        if one.verdict == verdict
    ]
    parts = [
        f"# {_cell(checked.folder)}: policy {_cell(checked.policy)}",
        summary(checked, allow_unknown),
        f"Derived from {_cell(checked.basis)}.",
        _markdown([*CLAIM_HEAD, "Why"], claims),
        _markdown([*GATE_HEAD, "Source", "Why"], gates),
        "\n".join(f"- {_cell(note)}" for note in checked.notes),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return markdown_table([[_cell(cell) for cell in row] for row in [head, *rows]]) if rows else ""


def json_of(checked: Checked, *, problems: bool = False, allow_unknown: bool = False) -> dict[str, typing.Any]:
    told = checked.to_dict() | {"summary": summary(checked, allow_unknown)}
    if problems:
        told |= {key: [one for one in told[key] if one["verdict"] != PASS] for key in ("claims", "gates")}
    return told


def _cell(text: str) -> str:
    """A foreign text in Markdown: no markup of its own."""
    return html.escape(plain(text, 400), quote=False).replace("`", "'").replace("*", "\\*").replace("[", "\\[")


def summary(checked: Checked, allow_unknown: bool = False) -> str:
    """The first line: the counts, and what they come to."""
    unknown = checked.count(UNKNOWN)
    told = f"{checked.count(FAIL)} failed, {unknown} unknown, {checked.count(PASS)} passed"
    if checked.passed:
        return f"{told}: every claim is supported and every gate of {checked.policy} passed"
    if checked.count(FAIL):
        return f"{told}: not supported as it stands"
    if allow_unknown:
        return f"{told}: nothing is contradicted; {unknown} unknown allowed, which is no pass"
    return f"{told}: nothing is contradicted; what is unknown does not pass"
