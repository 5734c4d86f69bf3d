"""results audit: what static checks find in anybody's train_gpt.py, which is never run."""

import dataclasses
import json
import sys
import typing
from pathlib import Path

import typer

from results.verbs import audit_probe
from results.verbs.shared import DEBUG, GATE, JSON, NOT_FINISHED, RUNS_DIR, USAGE, chosen_form, guarded

if typing.TYPE_CHECKING:
    from results.audit.pool import Request
    from results.audit.report import Audited
    from results.audit.source.program import Limits

FORMS = ("table", "md", "json")


def audit(
    files: typing.Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help="Scripts of anybody, folders that hold a train_gpt.py, or - for standard input; with --probe the id "
            "of a submission.",
            show_default=False,
        ),
    ] = None,
    run: typing.Annotated[
        str | None,
        typer.Option(
            "--run",
            help='How it is run, which settles branches: "TTT_ENABLED=1 torchrun --nproc_per_node=8 train_gpt.py".',
            show_default=False,
        ),
    ] = None,
    logs: typing.Annotated[
        list[Path] | None,
        typer.Option("--log", help="A log of the one FILE, checked too; may be repeated.", show_default=False),
    ] = None,
    smoke: typing.Annotated[
        bool,
        typer.Option(
            "--smoke", help="Import each script too, in a sandbox on the CPU, and tell its shape. It runs code."
        ),
    ] = False,
    probe: typing.Annotated[bool, audit_probe.PROBE] = False,
    evaluator: typing.Annotated[Path | None, audit_probe.EVALUATOR] = None,
    artifact: typing.Annotated[Path | None, audit_probe.ARTIFACT] = None,
    stream: typing.Annotated[Path | None, audit_probe.STREAM] = None,
    data: typing.Annotated[Path | None, audit_probe.DATA] = None,
    probe_tokens: typing.Annotated[int | None, audit_probe.TOKENS] = None,
    isolated: typing.Annotated[bool, audit_probe.ISOLATED] = False,
    bytes_per_token: typing.Annotated[float | None, audit_probe.BYTES] = None,
    exact_positions: typing.Annotated[int | None, audit_probe.EXACT] = None,
    swap_runs: typing.Annotated[int, audit_probe.SWAPS] = 12,
    run_seconds: typing.Annotated[float, audit_probe.SECONDS] = 300.0,
    memory_gb: typing.Annotated[float, audit_probe.MEMORY] = 16.0,
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    form: typing.Annotated[str, typer.Option("--format", help="table, md (a review comment) or json.")] = "table",
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Look for rule breaches in training scripts without running them; a triage for reviewers, never a clearance.

    Self-extracting scripts are unwrapped. A file gets pass: these checks found no violation; fail: a rule seems to be
    broken; or review: a person has to look, also at what cannot be analysed. JSON is one object a file, one a line.

    With --probe nothing is read so: the evaluation of sealed attempts is run, and told how its scores came about.

    Exit code 0 where all pass; 4 where a file fails; 3 where none fails and one is left for review.
    """
    form = chosen_form(form, as_json, FORMS)
    names = files or []

    def dynamic() -> int:
        from results.audit.probe.asked import Asked
        from results.audit.probe.process import Limits

        asked = Asked(
            evaluator=evaluator,
            artifact=artifact,
            stream=stream,
            data=data,
            tokens=probe_tokens,
            isolated=isolated,
            bytes_a_token=bytes_per_token,
            exact=exact_positions,
            swap_runs=swap_runs,
            limits=Limits(run_seconds=run_seconds, memory_bytes=int(memory_gb * 1e9)),
        )
        return audit_probe.probe(names, asked, runs_dir, form)

    def triage() -> int:
        if not names:
            print("no FILE is given: results audit train_gpt.py; with --probe the id of a submission", file=sys.stderr)
            return USAGE
        if logs and len(names) != 1:
            print(f"--log belongs to one FILE, and {len(names)} are given; audit them one by one", file=sys.stderr)
            return USAGE
        if smoke and "-" in names:
            print("--smoke imports a file, and standard input is none; name the file", file=sys.stderr)
            return USAGE
        return _triage(names, run, logs or [], smoke, form)

    guarded(dynamic if probe else triage, debug)


def _triage(names: list[str], run: str | None, logs: list[Path], smoke: bool, form: str) -> int:
    from results.audit.flow.follow import read_command
    from results.audit.pool import audit_many
    from results.audit.report import markdown, table
    from results.audit.source.program import Limits

    try:
        read_command(run)
    except ValueError as error:
        print(f"--run: {error}", file=sys.stderr)
        return USAGE
    limits = Limits()
    verdicts = set()
    for number, one in enumerate(audit_many(_requests(names, run, limits), limits)):
        whole = _with_logs(one, logs)
        whole = _with_smoke(whole, Path(names[number])) if smoke else whole
        verdicts.add(whole.verdict)
        if form == "json":
            print(json.dumps(whole.to_dict(), ensure_ascii=False), flush=True)
        elif form == "md":
            print(("\n---\n\n" if number else "") + markdown(whole), end="", flush=True)
        else:
            print(table([whole]), end="", flush=True)
    return GATE if "fail" in verdicts else NOT_FINISHED if "review" in verdicts else 0


def _requests(files: list[str], run: str | None, limits: "Limits") -> "list[Request]":
    from results.audit.pool import Request

    found = []
    for name in files:
        data = sys.stdin.buffer.read(limits.file_bytes + 1) if name == "-" else None
        found.append(Request(Path("standard input" if name == "-" else name), run, data))
    return found


def _with_logs(found: "Audited", logs: list[Path]) -> "Audited":
    if not logs:
        return found
    from results.audit.logs import log_findings

    said = tuple(one for path in logs for one in log_findings(path, found.bytes))
    return dataclasses.replace(found, logs=said)


def _with_smoke(found: "Audited", path: Path) -> "Audited":
    from results.audit.source.read import SCRIPT
    from results.replay.smoke import smoke

    return dataclasses.replace(found, smoke=smoke(path / SCRIPT if path.is_dir() else path).to_dict())
