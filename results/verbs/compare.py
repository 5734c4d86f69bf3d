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
    FRONTIER,
    GATE,
    JSON,
    NOT_FINISHED,
    RUNS_DIR,
    USAGE,
    chosen_form,
    filled,
    guarded,
    terminal_width,
)

if typing.TYPE_CHECKING:
    from golf_core.frontier import Frontier
    from golf_core.policy import Claim
    from results.compare import Comparison
    from results.sides import Side

SIDE = "A submission id, a submission's folder, a.log,b.log, values 1.0792,1.0799, n=6,mean=1.06,sd=0.001, or row 1493."
POLICY = typer.Option(
    "--policy",
    help="Whose claim rule decides: a name, or a TOML file. Without it the submission's, else record-2026-03.",
    show_default=False,
)
BYTES_PER_TOKEN = typer.Option(
    "--bytes-per-token",
    help="Of ours where only BPB are given: a number, or SP1024, SP4096, SP8192, CaseOps.",
    show_default=False,
)
WIDTH = 100  # of sentences where what is printed goes elsewhere


def compare(
    sides: typing.Annotated[
        list[str] | None,
        typer.Argument(
            metavar="OURS [THEIRS]",
            help=f"{SIDE} Without THEIRS, the row that the policy names. Three files or more are the logs of OURS.",
            show_default=False,
        ),
    ] = None,
    rows: typing.Annotated[bool, typer.Option("--rows", help="List the rows of the frontier, and end.")] = False,
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
    form = chosen_form(form, as_json, FORMATS)

    def run() -> int:
        from golf_core.fields import ConfigError
        from results.sides import NoScoreYet, SideError

        try:
            if rows:
                print(_rows_listed(frontier, policy, form), end="")
                return 0
            ours, theirs = _sides_of(sides or [], against)
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


def _sides_of(words: list[str], against: str | None) -> tuple[str | list[Path], str | None]:
    """OURS and THEIRS. A shell makes many words of `*.log`: three files or more are one side's logs, and a word after
    them that is no file is theirs; two files stay two sides, unless --against names theirs."""
    from results.sides import SideError, is_at

    if not words:
        raise SideError("name OURS: " + SIDE)
    files = [Path(word) for word in words if is_at(Path(word), Path.is_file)]
    if len(words) < 2 or (len(words) == 2 and (against is None or len(files) < 2)):
        return words[0], words[1] if len(words) == 2 else None
    theirs = None if len(files) == len(words) else words[-1]
    if len(files) < len(words) - 1 or (theirs is not None and files[-1] == Path(theirs)):
        raise SideError(
            f"{len(words)} sides are given, and compare takes OURS and THEIRS; join the logs of one with commas "
            "(a.log,b.log), or name their folder"
        )
    print(f"{len(files)} log files are read as one side, ours: {files[0]} to {files[-1]}", file=sys.stderr)
    return files, theirs


def _rows_listed(frontier: str | None, policy: str | None, form: str) -> str:
    from golf_core.frontier import load_frontier
    from golf_core.policy import WRITTEN
    from results.tables import Column, Table

    found = load_frontier(frontier or _claim(policy or WRITTEN)[1].frontier)
    columns = (
        Column(name="row", kind=str, meaning="what compare takes", header="Row"),
        Column(name="name", kind=str, meaning="its name", header="Name"),
        Column(name="date", kind=str, meaning="of the row", header="Date"),
        Column(name="tokenizer", kind=str, meaning="its tokenizer", header="Tokenizer"),
        Column(name="n", kind=int, meaning="seeds", header="n"),
        Column(name="mean_bpb", kind=float, meaning="mean BPB", header="BPB", write="{:.6f}".format),
        Column(name="accepted", kind=bool, meaning="whether it can be the best"),
    )
    records = [
        {"row": row.name if row.pr is None else str(row.pr), "name": row.name, "date": row.date}
        | {"tokenizer": row.tokenizer, "n": row.sample.n, "mean_bpb": row.sample.mean, "accepted": row.accepted}
        for row in found.rows
    ]
    table = Table(name="frontier", title=f"Frontier {found.name}", columns=columns, records=records, notes=[])
    return table.render(form, terminal_width())


def _compared(
    ours: str | list[Path],
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
    from results.sides import SideError, bytes_per_token_of, of_logs, read_side

    if theirs is not None and against is not None:
        raise SideError(f"theirs is given twice: {theirs!r}, and --against {against!r}; give one of them")
    rows = load_frontier(frontier or _claim(policy or WRITTEN)[1].frontier)
    ratio = None if bytes_per_token is None else bytes_per_token_of(bytes_per_token, rows)
    folder = runs_dir or Path(load_project().runs_dir)
    left = read_side(ours, rows, folder, ratio) if isinstance(ours, str) else of_logs(ours)
    chosen = _chosen(policy, left)
    if frontier is None and policy is None:
        rows = load_frontier(chosen[1].frontier)
    if theirs is None and against is not None:
        _check_row(rows, against)
    right = read_side(theirs or against or chosen[1].against, rows, folder)
    if reason := other_text(left.scored, right.scored):
        way = "name theirs: another submission of that text" if theirs is None and against is None else "not compared"
        raise SideError(f"{left.what} against {right.what}: {reason}; {way}")
    return compare_sides(left, right, chosen, rows)


def _check_row(frontier: "Frontier", word: str) -> None:
    """`--against` takes a row; an error lists them."""
    from golf_core.fields import ConfigError

    try:
        frontier.find(word)
    except ConfigError as error:
        known = ", ".join(row.name if row.pr is None else str(row.pr) for row in frontier.rows)
        raise ConfigError(f"--against: {error}; rows: best, {known}") from None


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
