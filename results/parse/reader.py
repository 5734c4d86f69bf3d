"""Read a log, of ours or of anybody: its runs, each with its claim, evidence and what cannot be known.

Memory is bounded by a block and by the facts of a run, whatever the size of the file.
"""

import re
import typing
from pathlib import Path

from results.parse.assemble import HEADER_BEGINS, INTEREST, STEP, RunFacts, take_line, take_step
from results.parse.claim import conclude
from results.parse.lines import read_lines, text_of
from results.parse.run import Curves, ParsedRun


def parse_file(path: Path, *, curves: bool = False) -> list[ParsedRun]:
    """The runs of a log in order; one run without values where it holds none. Raises OSError."""
    with path.open("rb") as file:
        return parse_stream(file, str(path), curves=curves)


def parse_stream(file: typing.BinaryIO, name: str, *, curves: bool = False) -> list[ParsedRun]:
    """The same of an open file, read once from where it stands."""
    runs: list[RunFacts] = []

    def fresh(number: int) -> RunFacts:
        runs.append(RunFacts(number, curves=Curves() if curves else None))
        return runs[-1]

    run = fresh(1)
    step, interest, begins = STEP.match, INTEREST.search, re.compile(HEADER_BEGINS.pattern.encode()).search
    for batch in read_lines(file):
        if batch.after_source and run.began:
            run = fresh(batch.first)
        number = batch.first - 1
        for raw in batch.raw:
            number += 1
            if not batch.complete:
                _last_words(run, number, raw)
            elif (match := step(raw)) is not None:
                if run.begins_again(int(match[1])):
                    run = fresh(number)
                take_step(run, number, raw, match)
            elif interest(raw):
                if run.scores and begins(raw):
                    run = fresh(number)
                take_line(run, number, raw)
    told = [one for one in runs if one.began or one.header or one.sizes] or runs[:1]
    return [conclude(one, name, number, len(told)) for number, one in enumerate(told, 1)]


def _last_words(run: RunFacts, number: int, raw: bytes) -> None:
    """A last line without its newline counts only where it plainly ends: a unit, or all the digits of an exact score."""
    text = text_of(raw)
    if re.search(r"(?:\d(?:ms|s)|bytes|val_bpb:\d+\.\d{8,})$", text) and STEP.match(raw) is None:
        take_line(run, number, raw)
    else:
        from results.parse.assemble import Fact

        run.cut = Fact("", number, text[:200])
