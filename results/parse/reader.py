"""Read a log, of ours or of anybody: its runs, each with its claim, evidence and what cannot be known.

Memory is bounded by a block and by the facts of a run, whatever the size of the file.
"""

import re
import typing
from pathlib import Path

from results.parse.conclude import conclude
from results.parse.facts import (
    Fact,
    RunFacts,
    says_validation,
    score_of,
    take_line,
    take_on_the_way,
    take_score,
    take_step,
)
from results.parse.lines import read_lines, text_of
from results.parse.patterns import HEADER_BEGINS, ON_THE_WAY, STEP, may_matter, may_matter_later
from results.parse.run import MAX_TEXT, Curves, ParsedRun

MAX_RUNS = 10_000  # in one file
MAX_CURVES = 100  # runs of a file whose curves are kept
# A last line without a newline plainly ends where a unit does, or with all the digits of an exact score.
ENDS_PLAINLY = re.compile(r"(?:\d(?:ms|s)|bytes|_exact\b.*val_bpb:\d+\.\d{8,})$")


def parse_file(path: Path, *, curves: bool = False) -> list[ParsedRun]:
    """The runs of a log in order; one run without values where it holds none. Raises OSError."""
    with path.open("rb") as file:
        return parse_stream(file, str(path), curves=curves)


def parse_stream(file: typing.BinaryIO, name: str, *, curves: bool = False) -> list[ParsedRun]:
    """The same of an open file, read once from where it stands."""
    runs = _Runs(curves)
    run = runs.fresh(1)
    last_line = 0
    step, on_the_way, begins = STEP.match, ON_THE_WAY.match, HEADER_BEGINS.search
    for batch in read_lines(file):
        if batch.after_source and run.began:
            run = runs.fresh(batch.first)
        number = batch.first - 1
        for raw in batch.raw:
            number += 1
            if (match := step(raw)) is not None and batch.complete:
                at = int(match[1] or match[4])
                if at < run.step and run.begins_again(at):
                    run = runs.fresh(number)
                run.step, run.step_line = at, (number, match, raw)
                if curves or says_validation(match):
                    take_step(run, number, raw, match)
            elif match is not None or not (batch.complete or ENDS_PLAINLY.search(text_of(raw))):
                run.cut = Fact("", number, text_of(raw)[:MAX_TEXT])
            elif run.trained:
                if on_the_way(raw) is not None:
                    take_on_the_way(run, number, raw)
                elif may_matter_later(raw.decode("latin-1")):
                    if run.scores and begins(raw) is not None:
                        run = runs.fresh(number)
                    run = runs.take(run, number, text_of(raw))
            elif may_matter(raw.decode("latin-1")):
                run = runs.take(run, number, text_of(raw))
        last_line = next((number - i for i, raw in enumerate(reversed(batch.raw)) if raw.strip()), last_line)
    run.last_line = last_line
    return runs.concluded(name)


class _Runs:
    def __init__(self, curves: bool) -> None:
        self.curves = curves
        self.all: list[RunFacts] = []
        self.left_out = 0

    def fresh(self, number: int) -> RunFacts:
        run = RunFacts(number, curves=Curves() if self.curves and len(self.all) < MAX_CURVES else None)
        if len(self.all) < MAX_RUNS:
            self.all.append(run)
        else:
            self.left_out += 1
        return run

    def take(self, run: RunFacts, number: int, text: str) -> RunFacts:
        """Take a line that is no step; the run that it belongs to."""
        score = score_of(run, number, text)
        if score is None:
            take_line(run, number, text)
            return run
        if run.is_of_next(score) and run.next_seed is not None:
            seed = run.next_seed
            run = self.fresh(seed.line)
            run.header["seed"] = [seed]
        take_score(run, score)
        return run

    def concluded(self, name: str) -> list[ParsedRun]:
        told = [one for one in self.all if one.began or one.header or one.sizes] or self.all[:1]
        found = [conclude(one, name, number, len(told)) for number, one in enumerate(told, 1)]
        if self.left_out:
            found[-1].warnings.append(f"{self.left_out} more runs are in the file; {MAX_RUNS} at most are read")
        return found
