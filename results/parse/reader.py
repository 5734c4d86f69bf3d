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
from results.parse.lines import OTHER_RANK, read_lines, text_of
from results.parse.patterns import HEADER_BEGINS, ON_THE_WAY, STEP, may_matter, may_matter_later
from results.parse.run import MAX_TEXT, Curves, ParsedRun

MAX_RUNS = 2_000  # in one file
MAX_CURVES = 100  # runs of a file whose curves are kept
# A last line without a newline plainly ends where a unit does, or with all the digits of an exact score.
ENDS_PLAINLY = re.compile(r"(?:\d(?:ms|s)|bytes|_exact\b.*val_bpb:\d+\.\d{8,})$")


def parse_file(path: Path, *, curves: bool = False) -> list[ParsedRun]:
    """The runs of a log in order; one run without values where it holds none. Raises OSError."""
    with path.open("rb") as file:
        return parse_stream(file, str(path), curves=curves)


def parse_stream(file: typing.BinaryIO, name: str, *, curves: bool = False) -> list[ParsedRun]:
    """The same of an open file, read once from where it stands."""
    runs = _Runs(name, curves)
    run = runs.run
    last_line = 0
    step, on_the_way = STEP.match, ON_THE_WAY.match
    for batch in read_lines(file):
        if batch.after_source and run.began:
            run = runs.fresh(batch.first)
        number = batch.first - 1
        for raw in batch.raw:
            number += 1
            if not raw:
                continue
            if (match := step(raw)) is not None and batch.complete:
                total = match[2] or match[5]
                if total != run.total:
                    if run.step_line is not None and (run.trained or int(total) < run.step):
                        continue  # of another loop than training
                    run.total = total
                at = int(match[1] or match[4])
                if at < run.step and run.begins_again(at):
                    run = runs.fresh(number)
                    run.total = total
                elif run.scores and at > run.step >= 0:
                    run.goes_on()
                run.step, run.step_line = at, (number, match, raw)
                if curves or says_validation(match):
                    take_step(run, number, raw, match)
            elif match is not None or not (batch.complete or ENDS_PLAINLY.search(text_of(raw))):
                run.cut = Fact("", number, text_of(raw)[:MAX_TEXT])
            elif run.trained:
                if on_the_way(raw) is not None:
                    take_on_the_way(run, number, raw)
                elif may_matter_later(raw.decode("latin-1")):
                    run = runs.take(run, number, raw)
            elif may_matter(raw.decode("latin-1")):
                run = runs.take(run, number, raw)
        last_line = next((number - i for i, raw in enumerate(reversed(batch.raw)) if raw.strip()), last_line)
    run.last_line = last_line
    return runs.concluded()


class _Runs:
    """The runs of a file. One that ended is concluded at once: its facts take ten times the memory."""

    def __init__(self, name: str, curves: bool) -> None:
        self.name, self.curves = name, curves
        self.ended: list[ParsedRun] = []
        self.left_out = 0
        self.run = self._new(1)

    def _new(self, number: int) -> RunFacts:
        return RunFacts(number, curves=Curves() if self.curves and len(self.ended) < MAX_CURVES else None)

    def fresh(self, number: int) -> RunFacts:
        """The next run."""
        self._end()
        self.run = self._new(number)
        return self.run

    def _end(self, last: bool = False) -> None:
        # What was said before a header is of another run, or somebody's words.
        if not (self.run.is_a_run or (last and (self.run.scores or self.run.sizes))):
            return
        if len(self.ended) < MAX_RUNS:
            self.ended.append(conclude(self.run, self.name))
        else:
            self.left_out += 1

    def take(self, run: RunFacts, number: int, raw: bytes) -> RunFacts:
        """Take a line that is no step; the run that it belongs to."""
        if OTHER_RANK.match(raw) is not None:
            return run  # its share of the sum, or the same once more
        if (run.scores or run.step_line is not None) and HEADER_BEGINS.search(raw) is not None:
            run = self.fresh(number)
        text = text_of(raw)
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

    def concluded(self) -> list[ParsedRun]:
        self._end(last=True)
        found = self.ended or [conclude(self.run, self.name)]
        for number, one in enumerate(found, 1):
            one.run, one.runs = number, len(found)
        if self.left_out:
            found[-1].warnings.append(f"{self.left_out} more runs are in the file; {MAX_RUNS} at most are read")
        return found
