"""results audit --probe: ask an evaluator about streams that differ in chosen places. It runs the submission's code."""

import json
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from results.verbs.shared import FAILED, GATE, NOT_FINISHED, opened, terminal_width

if typing.TYPE_CHECKING:
    from results.audit.probe.asked import Asked
    from results.audit.probe.show import Probed


def probe(submission: str | None, asked: "Asked", runs_dir: Path | None, form: str) -> int:
    """The exit code: 4 where a probe fails, 3 where one is left for review, 1 where the evaluator gives no scores.
    Raises what `guarded` turns into a line."""
    from results.audit.finding import FAIL, REVIEW
    from results.audit.probe.scorer import ScorerError
    from results.audit.probe.show import markdown, table

    verdicts = set()
    try:
        for number, one in enumerate(_probed(submission, asked, runs_dir)):
            verdicts.add(one.verdict)
            if form == "json":
                print(json.dumps(one.to_dict(), ensure_ascii=False), flush=True)
            elif form == "md":
                print(("\n---\n\n" if number else "") + markdown(one), end="", flush=True)
            else:
                print(("\n" if number else "") + table(one, terminal_width()), end="", flush=True)
    except ScorerError as error:
        print(error, file=sys.stderr)
        return FAILED
    return GATE if FAIL in verdicts else NOT_FINISHED if REVIEW in verdicts else 0


def _probed(submission: str | None, asked: "Asked", runs_dir: Path | None) -> "Iterator[Probed]":
    from results.audit.probe.asked import probe_attempts, probe_file

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if submission is None:
        yield probe_file(asked, tell)
        return
    found, _ = opened(submission, runs_dir)
    yield from probe_attempts(found, asked, tell)
