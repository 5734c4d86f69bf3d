"""results verify: every number of a submission folder, ours or anybody's, derived again."""

import json
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from results.verbs.shared import (
    DEBUG,
    FRONTIER,
    GATE,
    JSON,
    NOT_FINISHED,
    RUNS_DIR,
    USAGE,
    chosen_form,
    guarded,
    terminal_width,
)

if typing.TYPE_CHECKING:
    from results.collect import Collected
    from results.untrusted import Folder
    from results.verify.check import Checked
    from results.verify.rival import Asked

FORMS = ("table", "md", "json")
DEFAULT_POLICY = "record-2026-03"
POLICY = typer.Option(
    "--policy",
    help=f"Name or TOML file (default: the registered one of ours, else {DEFAULT_POLICY}).",
    show_default=False,
)
DATA = typer.Option(
    "--data", help="Folder of the run's shards (default: where the run had them), for --recount and --replay."
)
TOKENIZER = typer.Option("--tokenizer", help="The run's tokenizer (default: the manifest's).")
DOCS = typer.Option("--docs", help="The documents' own text, .jsonl, .jsonl.gz or .jsonl.xz, for --recount.")
AGAINST = typer.Option(
    "--against",
    help="Frontier row to hold it against: best, or a pull request (default: the best before its own date).",
    show_default=False,
)


@dataclass(frozen=True, kw_only=True)
class Audits:
    """Which audits to make of the sealed attempts first, and where their data lies."""

    recount: bool
    replay: bool
    data: Path | None
    tokenizer: Path | None
    docs: Path | None

    def make(self, found: "Collected") -> None:
        """Records beside the attempts. Raises RunDirError where the data is not at hand."""

        def tell(line: str) -> None:
            print(line, file=sys.stderr, flush=True)

        if self.recount:
            from results.recount.attempts import recount_attempts

            tell("recount: decoding the validation shards, and looking for their documents in the train shards")
            for seed, told in recount_attempts(found, self.data, self.tokenizer, self.docs).items():
                tell(f"recount, seed {seed}: {told.verdict}: {told.says}")
        if self.replay:
            from results.replay.replay import replay_attempts

            for seed, again in replay_attempts(found, self.data, self.tokenizer, tell).items():
                tell(f"replay, seed {seed}: {again.verdict}: {again.says}")


def verify(
    folder: typing.Annotated[
        str,
        typer.Argument(metavar="FOLDER|SUBMISSION", help="A submission folder, or an id of ours.", show_default=False),
    ],
    policy: typing.Annotated[str | None, POLICY] = None,
    against: typing.Annotated[str | None, AGAINST] = None,
    frontier: typing.Annotated[str | None, FRONTIER] = None,
    recount: typing.Annotated[
        bool, typer.Option("--recount", help="Count the bytes of the validation text again, from the shards.")
    ] = False,
    replay: typing.Annotated[
        bool, typer.Option("--replay", help="Score each artifact again in a sandbox: an evaluation a seed.")
    ] = False,
    data: typing.Annotated[Path | None, DATA] = None,
    tokenizer: typing.Annotated[Path | None, TOKENIZER] = None,
    docs: typing.Annotated[Path | None, DOCS] = None,
    allow_unknown: typing.Annotated[
        bool,
        typer.Option("--allow-unknown", help="Exit 0 where nothing failed, though something is unknown."),
    ] = False,
    problems: typing.Annotated[
        bool, typer.Option("--problems", help="Only what failed or is unknown, a shared cause told once.")
    ] = False,
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    form: typing.Annotated[str, typer.Option("--format", help="table, md or json.")] = "table",
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Derive every number of a submission folder again, and judge its gates; 4 unless all is supported.

    Exit codes: 0 all is supported (with --allow-unknown: nothing failed), 4
    something failed or is unknown, 3 a draft, 5 what cannot be read. Logs
    alone never tell everything, so that a folder without its sealed attempts
    gives 0 only with --allow-unknown.

    FOLDER holds README.md, submission.json, train_gpt.py and logs, of ours
    or of anybody. Where the sealed attempts of one of ours are at hand, they
    are the evidence, else its logs. What the evidence does not tell is
    unknown, and unknown is no pass. --recount and --replay take the sealed
    attempts and the data of a submission of ours; what they find is kept
    beside the attempts, and is a gate of every later check. What it is held against is the best row
    of the policy's frontier that is dated before the submission's own date.
    """
    form = chosen_form(form, as_json, FORMS)

    def run() -> int:
        from golf_core.fields import ConfigError

        chosen = None if policy is None else _policy(policy)
        if (path := _folder_of(folder, runs_dir)) is None:
            return USAGE
        from results.untrusted import Folder
        from results.verify.rival import Asked

        opened = Folder(path)
        if (code := _not_final(opened)) is not None:
            return code
        asked = Asked(against=against, frontier=frontier)
        try:
            _find_asked(asked, chosen)
        except ConfigError as error:
            print(error, file=sys.stderr)
            return USAGE
        audits = Audits(recount=recount, replay=replay, data=data, tokenizer=tokenizer, docs=docs)
        checked = _check(opened, chosen, asked, runs_dir, audits)
        if checked is None:
            return USAGE
        _show(checked, form, problems, allow_unknown)
        return 0 if checked.passed or (allow_unknown and checked.nothing_failed) else GATE

    guarded(run, debug)


def _policy(name: str) -> dict[str, typing.Any]:
    from golf_core.fields import ConfigError
    from golf_core.policy import load_policy
    from results.project import ProjectError

    try:
        return load_policy(name).to_dict()
    except ConfigError as error:
        raise ProjectError(str(error)) from None


def _folder_of(text: str, runs_dir: Path | None) -> Path | None:
    """The folder to check: the one that is named, or the packed one of a submission. None where that is missing."""
    from results.pack import FOLDER
    from results.project import load_project
    from results.spec import SPEC, UnknownSubmission, find_submission

    path = Path(text)
    if not path.is_dir() and not path.is_symlink() and "/" not in text:
        runs = runs_dir or Path(load_project().runs_dir)
        try:
            path = find_submission(runs, text)
        except UnknownSubmission as error:
            raise UnknownSubmission(f"there is no folder {text!r}, and {error}") from None
    if not (path / SPEC).is_file():
        return path
    if (path / FOLDER).is_dir():
        return path / FOLDER
    print(f"{path} is not packed; `python -m results pack {path.name}` makes {path / FOLDER}", file=sys.stderr)
    return None


def _not_final(folder: "Folder") -> int | None:
    from results.draft import pending_in

    if (told := pending_in(folder)) is None:
        return None
    print(f"{folder.path} is a draft, not a submission: {told}", file=sys.stderr)
    return NOT_FINISHED


def _find_asked(asked: "Asked", chosen: Mapping[str, typing.Any] | None) -> None:
    """Raises ConfigError for a row or a frontier that there is not, before anything is read."""
    from golf_core.frontier import load_frontier
    from golf_core.policy import WRITTEN, load_policy
    from results.claims import claim_of

    claim = claim_of(chosen or {}) or load_policy(WRITTEN).claim
    if asked.frontier is not None or asked.against is not None:
        assert claim is not None
        frontier = load_frontier(asked.frontier or claim.frontier)
        frontier.find(asked.against or claim.against)


def _check(
    folder: "Folder",
    chosen: Mapping[str, typing.Any] | None,
    asked: "Asked",
    runs_dir: Path | None,
    audits: Audits,
) -> "Checked | None":
    """By sealed attempts where the folder is of ours and they are at hand, else by the logs. None where audits were
    asked for that logs cannot be put to."""
    from results.collect import collect
    from results.spec import UnknownSubmission, find_submission
    from results.verify.check import SUBMISSION, check_logs
    from results.verify.sealed import check_sealed, id_of_ours

    facts = folder.document(SUBMISSION) if folder.has(SUBMISSION) else {}
    if (submission_id := id_of_ours(facts)) is not None:
        runs = _runs_of(folder.path, runs_dir)
        try:
            found = collect(find_submission(runs, submission_id))
            audits.make(found)
            return check_sealed(folder, found, chosen, asked)
        except UnknownSubmission:
            print(
                f"the sealed attempts of {submission_id[:12]} are not in {runs}: judged by the logs alone "
                "(--runs-dir names another folder)",
                file=sys.stderr,
            )
    if audits.recount or audits.replay:
        print("--recount and --replay need the sealed attempts of a submission of ours", file=sys.stderr)
        return None
    return check_logs(folder, chosen or _policy(DEFAULT_POLICY), asked)


def _runs_of(path: Path, runs_dir: Path | None) -> Path:
    """The runs folder that was named; else the one that the folder was packed in; else the project's."""
    from results.project import load_project
    from results.spec import SPEC

    if runs_dir is not None:
        return runs_dir
    packed_in = path.absolute().parent
    return packed_in.parent if (packed_in / SPEC).is_file() else Path(load_project().runs_dir)


def _show(checked: "Checked", form: str, problems: bool, allow_unknown: bool) -> None:
    from results.verify.show import json_of, markdown_text, table_text

    if form == "json":
        told = json_of(checked, problems=problems, allow_unknown=allow_unknown)
        print(json.dumps(told, indent=1, ensure_ascii=False))
    elif form == "table":
        print(table_text(checked, terminal_width(), problems=problems, allow_unknown=allow_unknown), end="")
    else:
        print(markdown_text(checked, problems=problems, allow_unknown=allow_unknown), end="")
