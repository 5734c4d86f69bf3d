"""results audit --probe: ask an evaluator about streams that differ in chosen places. It runs the submission's code."""

import json
import sys
import typing
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import typer

from results.verbs.shared import FAILED, GATE, NOT_FINISHED, USAGE, opened, terminal_width

if typing.TYPE_CHECKING:
    from results.audit.probe.asked import Asked
    from results.audit.probe.show import Probed

PANEL = "With --probe"


def _option(*names: str, **settings: typing.Any) -> typing.Any:
    return typer.Option(*names, rich_help_panel=PANEL, show_default=False, **settings)


PROBE = typer.Option(
    "--probe",
    help="Run the evaluation of a SUBMISSION of ours, or of --evaluator, on a small stream, and probe what its scores "
    "depend on. This runs its code.",
)
EVALUATOR = _option("--evaluator", help="Python file that offers score_stream(artifact, tokens, learn).")
ARTIFACT = _option("--artifact", help="The artifact that it scores with.")
STREAM = _option("--stream", help="Token shard to take documents from (default: the submission's validation data).")
DATA = _option("--data", help="Folder of the submission's shards, where they are elsewhere now.")
TOKENS = _option(
    "--probe-tokens", min=64, help="Tokens of whole documents (default: 8192, or over two of its chunks to learn)."
)
ISOLATED = _option("--isolated", help="Hold it to documents that do not reach each other's context.")
BYTES = _option("--bytes-per-token", min=0.01, help="For bits a byte (default: as the submission's scores have it).")
EXACT = _option("--exact-positions", min=0, help="Positions at which every token of the vocabulary is tried.")
SWAPS = _option("--swap-runs", min=0, help="Runs with drawn tokens (default: 12).")
SECONDS = _option("--run-seconds", min=0.1, help="Limit of one run (default: 300).")
MEMORY = _option("--memory-gb", min=0.1, help="Limit of its memory (default: 16).")


def probe(submissions: list[str], asked: "Asked", runs_dir: Path | None, form: str) -> int:
    """The exit code: 4 where a probe fails, 3 where one is left for review, 1 where the evaluator gives no scores.
    Raises what `guarded` turns into a line."""
    from results.audit.finding import FAIL, REVIEW
    from results.audit.probe.scorer import ScorerError
    from results.audit.probe.show import markdown, table

    if len(submissions) == 1 and asked.evaluator is None and Path(submissions[0]).is_file():
        asked, submissions = replace(asked, evaluator=Path(submissions[0])), []
    if len(submissions) > 1 or (not submissions and asked.evaluator is None):
        print(
            f"--probe takes the id of one submission, and {len(submissions)} are given; or a FILE with --artifact FILE "
            "--stream SHARD",
            file=sys.stderr,
        )
        return USAGE
    verdicts = set()
    try:
        for number, one in enumerate(_probed(submissions, asked, runs_dir)):
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


def _probed(submissions: list[str], asked: "Asked", runs_dir: Path | None) -> "Iterator[Probed]":
    from results.audit.probe.asked import probe_attempts, probe_file

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if not submissions:
        yield probe_file(asked, tell)
        return
    found, _ = opened(submissions[0], runs_dir)
    yield from probe_attempts(found, asked, tell)
