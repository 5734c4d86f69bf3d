"""S5 in code that a script compiles: a property of the token at the very position that is being predicted.

C is not followed; a pattern is looked for, in any names: a loop over i, in it a table read under tokens[i], and an
output written at [i]. What follows from it a person must see: the verdict is review.
"""

import re
from collections.abc import Mapping

from results.audit.finding import MAX_EVIDENCE, REVIEW, Finding
from results.audit.source.program import Program

LOOP = re.compile(r"\bfor\s*\(\s*(?:[\w\s]*?\b)?(\w+)\s*=[^;]*;[^;]*;[^)]*\)")
NAME = r"[A-Za-z_]\w*"
LONGEST = 200_000


def check(program: Program, variables: Mapping[str, str] | None = None) -> list[Finding]:
    """`variables`, of a run command, are nothing to compiled code."""
    found = []
    for name, text in program.other:
        for line, source in gates(text[:LONGEST]):
            says = f"compiled code reads a property of the very token that it writes for (line {line} of {name})"
            found.append(Finding("S5", REVIEW, "[M2] A5", says, name, line, source[:MAX_EVIDENCE]))
    return found


def gates(text: str) -> list[tuple[int, str]]:
    """Lines that read a table under the token of the loop's own position, in a loop that writes at that position."""
    lines: list[tuple[int, str]] = []
    for loop in LOOP.finditer(text):
        at, body = loop[1], body_after(text, loop.end())
        tokens = [rf"{NAME}\s*\[\s*{at}\s*\]"]
        for own in re.finditer(rf"\b({NAME})\s*=\s*(?:\([^)]*\)\s*)?{NAME}\s*\[\s*{at}\s*\]\s*[;,]", body):
            tokens.append(rf"\b{own[1]}\b")
        key = "|".join(tokens)
        writes = re.search(rf"\b{NAME}\s*\[\s*{at}\s*\]\s*=[^=]", body)
        for read in (
            re.finditer(rf"\b({NAME})\s*\[\s*(?:{key})\s*\](?!\s*(?:=[^=]|\+\+|--|[-+*|&^]=|\[))", body)
            if writes
            else []
        ):
            stored = re.search(rf"\b{read[1]}\s*\[[^\]]*\]\s*(?:=[^=]|\+\+|--|[-+*|&^]=)", body)
            if stored is None and not re.search(r"(?:\+\+|--)\s*$", body[: read.start()]):
                number = text.count("\n", 0, loop.end() + read.start()) + 1
                lines.append((number, text.split("\n")[number - 1].strip()))
    return sorted(set(lines))


def body_after(text: str, start: int) -> str:
    """The statement or the block that begins there."""
    rest = text[start:]
    if not rest.lstrip().startswith("{"):
        return rest.partition(";")[0] + ";"
    depth = 0
    for number, letter in enumerate(rest):
        depth += (letter == "{") - (letter == "}")
        if letter == "}" and depth == 0:
            return rest[: number + 1]
    return rest
