"""results compare: is ours better than theirs, under which rule, and what could these seeds have shown."""

import csv
import io
import json
import sys
import typing
from pathlib import Path

import typer

from results.verbs.shared import (
    DEBUG,
    FAILED,
    FORMATS,
    GATE,
    JSON,
    NOT_FINISHED,
    RUNS_DIR,
    USAGE,
    filled,
    guarded,
    terminal_width,
)

if typing.TYPE_CHECKING:
    from golf_core.policy import Claim
    from results.compare import Comparison
    from results.sides import Side

SIDE = "A submission id, a submission's folder, a.log,b.log, values 1.0792,1.0799, n=6,mean=1.06,sd=0.001, or row 1493."
POLICY = typer.Option(
    "--policy",
    help="Whose claim rule decides: a name, or a TOML file. Without it the submission's, else record-2026-03.",
    show_default=False,
)
FRONTIER = typer.Option(
    "--frontier", help="Date of a frontier, or a TOML file of rows. Without it the policy's.", show_default=False
)
BYTES_PER_TOKEN = typer.Option(
    "--bytes-per-token",
    help="Of ours where only BPB are given: a number, or SP1024, SP4096, SP8192, CaseOps.",
    show_default=False,
)
WIDTH = 100  # of sentences where what is printed goes elsewhere


def compare(
    ours: typing.Annotated[str, typer.Argument(help=SIDE, show_default=False)],
    theirs: typing.Annotated[
        str | None, typer.Argument(help="The same; without it, the row that the policy names.", show_default=False)
    ] = None,
    policy: typing.Annotated[str | None, POLICY] = None,
    against: typing.Annotated[
        str | None, typer.Option("--against", help="A frontier row: best, or a pull request.", show_default=False)
    ] = None,
    frontier: typing.Annotated[str | None, FRONTIER] = None,
    bytes_per_token: typing.Annotated[str | None, BYTES_PER_TOKEN] = None,
    runs_dir: typing.Annotated[Path | None, RUNS_DIR] = None,
    form: typing.Annotated[str, typer.Option("--format", help="table, csv, md or json.")] = "table",
    as_json: typing.Annotated[bool, JSON] = False,
    debug: typing.Annotated[bool, DEBUG] = False,
) -> None:
    """Test ours against theirs: one-sided Welch, with margin, power and seeds needed, under every rule by name.

    Exit code 4 where the chosen policy's claim is not met, or not known to be; 3 where seeds are still missing; 1
    where one failed.
    """
    form = "json" if as_json else form
    if form not in FORMATS:
        print(f"--format {form!r} is not known; there are {', '.join(FORMATS)}", file=sys.stderr)
        sys.exit(USAGE)

    def run() -> int:
        from golf_core.fields import ConfigError
        from results.sides import NoScoreYet, SideError

        try:
            found = _compared(ours, theirs, policy, against, frontier, bytes_per_token, runs_dir)
        except NoScoreYet as error:
            print(error, file=sys.stderr)
            return FAILED if error.failed else NOT_FINISHED
        except (ConfigError, SideError) as error:
            print(error, file=sys.stderr)
            return USAGE
        print(_written(found, form), end="")
        if found.verdict == "pass":
            return 0
        if found.ours.lost or found.theirs.lost:
            return FAILED
        return NOT_FINISHED if found.verdict == "unknown" and (found.ours.missing or found.theirs.missing) else GATE

    guarded(run, debug)


def _compared(
    ours: str,
    theirs: str | None,
    policy: str | None,
    against: str | None,
    frontier: str | None,
    bytes_per_token: str | None,
    runs_dir: Path | None,
) -> "Comparison":
    from golf_core.frontier import load_frontier
    from golf_core.policy import WRITTEN
    from results.claims import other_text
    from results.compare import compare as compare_sides
    from results.project import load_project
    from results.sides import SideError, bytes_per_token_of, read_side

    if theirs is not None and against is not None:
        raise SideError(f"theirs is given twice: {theirs!r}, and --against {against!r}; give one of them")
    rows = load_frontier(frontier or _claim(policy or WRITTEN)[1].frontier)
    ratio = None if bytes_per_token is None else bytes_per_token_of(bytes_per_token, rows)
    folder = runs_dir or Path(load_project().runs_dir)
    left = read_side(ours, rows, folder, ratio)
    chosen = _chosen(policy, left)
    if frontier is None and policy is None:
        rows = load_frontier(chosen[1].frontier)
    right = read_side(theirs or against or chosen[1].against, rows, folder)
    if reason := other_text(left.scored, right.scored):
        way = "name theirs: another submission of that text" if theirs is None and against is None else "not compared"
        raise SideError(f"{left.what} against {right.what}: {reason}; {way}")
    return compare_sides(left, right, chosen, rows)


def _chosen(policy: str | None, ours: "Side") -> "tuple[str, Claim, int]":
    """The policy of the command line; else the submission's own, where it has a claim rule; else the written one."""
    from golf_core.policy import WRITTEN

    return _claim(policy) if policy is not None else ours.rule or _claim(WRITTEN)


def _claim(policy: str) -> "tuple[str, Claim, int]":
    from golf_core.fields import ConfigError
    from golf_core.policy import load_policy, policy_names

    found = load_policy(policy)
    if found.claim is None:
        known = ", ".join(name for name in policy_names() if load_policy(name).claim is not None)
        raise ConfigError(f"policy {found.name} has no claim rule: nothing can be claimed under it; with one: {known}")
    return found.name, found.claim, found.seeds


def _written(found: "Comparison", form: str) -> str:
    from results.compare import csv_rows, rule_cells, sentences, side_cells
    from results.tables import markdown_table, plain_table

    if form == "json":
        return json.dumps(found.to_dict(), indent=1, ensure_ascii=False) + "\n"
    if form == "csv":
        rows, text = csv_rows(found), io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
    heads = [f"ours:   {found.ours.what}", f"theirs: {found.theirs.what}"]
    said, tables = sentences(found), [side_cells(found), rule_cells(found)]
    if form == "md":
        return "\n\n".join([*heads, *(markdown_table(cells).rstrip() for cells in tables), *said]) + "\n"
    width = terminal_width()
    shown = [plain_table(cells, width).rstrip() for cells in tables]
    parts = ["\n".join(filled(one, width, "        ") for one in heads), *shown]
    return "\n\n".join([*parts, "\n".join(filled(line, width or WIDTH, "  ") for line in said)]) + "\n"
