"""The command line: python -m orchestrator submit | status | logs | cancel | fetch | recipes | doctor."""

import os
import signal
import sys
import traceback
import typing
from collections.abc import Callable
from pathlib import Path

import typer

from golf_core.rundir import RunDirError
from orchestrator.errors import BACKEND, EXIT_CODES, INTERRUPTED, USAGE, CommandError, UsageError
from orchestrator.settings import Settings

if typing.TYPE_CHECKING:
    from orchestrator.place import Place

app = typer.Typer(
    name="orchestrator",
    help="Sends runs out and brings sealed attempts back: from a recipe and seeds to a checkable submission folder.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunsDir = typing.Annotated[str | None, typer.Option(help="Folder of ledger, attempts and outputs. Default: runs.")]
Prefix = typing.Annotated[
    str | None, typer.Argument(help="Submission id, its beginning, or a grid. Default: what runs, else the latest.")
]
DataFolder = typing.Annotated[str | None, typer.Option(help="Folder of shards. Default: the embedded corpus.")]
Tokenizer = typing.Annotated[
    str | None,
    typer.Option(help="SentencePiece model that made the shards. Default: the one that DATA's manifest names."),
]
Address = typing.Annotated[
    str | None,
    typer.Option(metavar="URL", help="A Ray cluster's job server, as in http://127.0.0.1:8265; auto on its head."),
]
Insecure = typing.Annotated[
    bool, typer.Option("--insecure", help="Talk to a job server without a token over a network that others see.")
]
StateDir = typing.Annotated[str | None, typer.Option(help="Folder on the cluster's head. Default: ~/golf-runs.")]
Json = typing.Annotated[bool, typer.Option("--json", help="One JSON object on stdout, with schema_version.")]
Debug = typing.Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]
Sets = typing.Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a field of the recipe; repeatable.")
]


def run(debug: bool, command: Callable[[], int]) -> typing.NoReturn:
    """Run a command; an error becomes one or two lines and its exit code."""
    try:
        code = command()
    except CommandError as error:
        code = _tell(error, error.exit_code, debug)
    except RunDirError as error:
        code = _tell(error, BACKEND, debug)
    except BrokenPipeError:  # whoever reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not fail at exit
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _tell(error, BACKEND, debug)
    except KeyboardInterrupt:
        code = INTERRUPTED
    raise typer.Exit(code)


def _tell(error: Exception, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {error}", file=sys.stderr)
    return code


def place_of(settings: Settings, submission: str | None) -> "Place | None":
    """Where it runs; None: on this machine."""
    from orchestrator.place import place_of

    return place_of(settings, submission)


def resolve(**flags: typing.Any) -> Settings:
    return Settings.resolve(flags, os.environ, Path("."))


@app.command(epilog=EXIT_CODES)
def submit(
    seeds: typing.Annotated[str | None, typer.Option(help="Seeds in order. Default: 1337,42,2025.")] = None,
    recipe: typing.Annotated[
        str | None,
        typer.Option(help="Recipe or grid: a name, or ./mine.py:function. Default: demo; with cuda legal_ttt."),
    ] = None,
    set_: Sets = None,
    on: typing.Annotated[str | None, typer.Option(help="process, or ray (local Ray). Default: ray.")] = None,
    policy: typing.Annotated[
        str | None,
        typer.Option(
            help="A name, or a TOML file. Default: demo; with cuda exploration, on 8xH100 SXM record-2026-03."
        ),
    ] = None,
    runs_dir: RunsDir = None,
    data: DataFolder = None,
    tokenizer: Tokenizer = None,
    device: typing.Annotated[str | None, typer.Option(help="cpu or cuda. Default: cpu; of a grid, its own.")] = None,
    gpus: typing.Annotated[
        str | None, typer.Option(metavar="MODEL:COUNT", help="Of a seed, on one node: H100:8, any:1, or 0.")
    ] = None,
    max_gpus: typing.Annotated[int | None, typer.Option(help="GPUs at a time, of all submits together.")] = None,
    address: Address = None,
    state_dir: StateDir = None,
    node_dir: typing.Annotated[str | None, typer.Option(help="Folder on each node. Default: ~/golf-node.")] = None,
    storage: typing.Annotated[
        str | None, typer.Option(metavar="URI", help="Where sealed attempts are copied: file://, s3://, gs://.")
    ] = None,
    budget: typing.Annotated[float | None, typer.Option(help="USD that this runs folder may ever cost.")] = None,
    price: typing.Annotated[float | None, typer.Option(help="USD an hour for the GPUs of a seed.")] = None,
    provider: typing.Annotated[
        str | None, typer.Option(help="Whose GPUs these are, for their listed price: aws, lambda, modal, runpod.")
    ] = None,
    max_attempts: typing.Annotated[
        int | None, typer.Option(help="Attempts of a seed that may be paid for. Default: 3, the last two retries.")
    ] = None,
    dead_man_seconds: typing.Annotated[
        float | None, typer.Option(help="Most that an attempt may take in all. Default: its limits added up.")
    ] = None,
    parallel: typing.Annotated[
        bool, typer.Option("--parallel", help="All seeds at once: no canary goes first.")
    ] = False,
    no_rehearsal: typing.Annotated[
        bool, typer.Option("--no-rehearsal", help="Rent all GPUs at once, for code that never ran on one.")
    ] = False,
    install_packages: typing.Annotated[
        bool, typer.Option("--install-packages", help="Let Ray install our packages on the nodes.")
    ] = False,
    insecure: Insecure = False,
    grid: typing.Annotated[
        Path | None, typer.Option(metavar="FILE", help="Variants of a recipe, from a TOML file; see docs/recipes.md.")
    ] = None,
    processes: typing.Annotated[
        int | None, typer.Option(help="A seed. Default: 2 with two cores, or one a GPU; of a grid, its own.")
    ] = None,
    threads: typing.Annotated[int | None, typer.Option(help="Threads a process, on a CPU. Default: 1.")] = None,
    dtype: typing.Annotated[str | None, typer.Option(help="bf16 or fp32. Default: what the CPU is fast at.")] = None,
    launcher: typing.Annotated[str | None, typer.Option(help="torchrun, or python for one process alone.")] = None,
    startup_seconds: typing.Annotated[float | None, typer.Option(help="Most before a first phase.")] = None,
    silence_seconds: typing.Annotated[float | None, typer.Option(help="Most without a line of output.")] = None,
    bundle: typing.Annotated[
        Path | None, typer.Option(help="Run this train_gpt.py (an edited bundle) instead of the recipe's.")
    ] = None,
    script: typing.Annotated[
        Path | None,
        typer.Option(help="Run this train_gpt.py of anybody's, unedited, instead of a recipe; see docs/scripts.md."),
    ] = None,
    env: typing.Annotated[
        list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="For --script: a variable; repeatable.")
    ] = None,
    artifact: typing.Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="For --script: the file of weights that it leaves. Default: *.ptz and such."),
    ] = None,
    retry_failed: typing.Annotated[
        bool, typer.Option("--retry-failed", help="Try failures of the code again.")
    ] = False,
    dry_run: typing.Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    yes: typing.Annotated[bool, typer.Option("-y", "--yes", help="No question; local runs ask none.")] = False,
    quiet: typing.Annotated[bool, typer.Option("-q", "--quiet", help="Only the submission id on stdout.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train, score and package every seed of a recipe, or run a script for each. The same submit again resumes, or
    prints the finished table.

    Of a grid: every variant, one after another, with the same seeds and --set; the exit code is the worst of them.
    Of a script: its numbers are read from its log, and gates that need our evaluator stay unknown.

    Settings: flag, else GOLF_* environment variable, else golf.toml, else default; the plan shows which.
    """

    def command() -> int:
        from orchestrator.request import Request
        from orchestrator.submit import submit as submit_command

        settings = resolve(
            seeds=seeds, recipe=recipe, on=on, policy=policy, runs_dir=runs_dir, data=data, tokenizer=tokenizer,
            device=device, gpus=gpus, max_gpus=max_gpus, address=address, state_dir=state_dir,
            node_dir=node_dir, storage=storage, budget=budget, price=price, provider=provider,
            max_attempts=max_attempts, dead_man_seconds=dead_man_seconds, processes=processes, threads=threads,
            dtype=dtype, launcher=launcher, startup_seconds=startup_seconds, silence_seconds=silence_seconds,
        )  # fmt: skip
        request = Request(
            overrides=tuple(set_ or ()),
            bundle=bundle,
            script=script,
            env=tuple(env or ()),
            artifact=artifact,
            dry_run=dry_run,
            json=json,
            quiet=quiet,
            retry_failed=retry_failed,
            yes=yes,
            parallel=parallel,
            rehearsal=not no_rehearsal,
            install_packages=install_packages,
            insecure=insecure,
            grid=grid,
        )
        return submit_command(settings, request)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def status(
    submission: Prefix = None,
    follow: typing.Annotated[bool, typer.Option("-f", "--follow", help="Live, until its process ends.")] = False,
    verbose: typing.Annotated[bool, typer.Option("-v", "--verbose", help="The story in sentences.")] = False,
    runs_dir: RunsDir = None,
    address: Address = None,
    state_dir: StateDir = None,
    insecure: Insecure = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """How a submission stands, a row a seed. One that was sent to a cluster is asked for there."""

    def command() -> int:
        settings = resolve(runs_dir=runs_dir, address=address, state_dir=state_dir)
        if (place := place_of(settings, submission)) is not None:
            from orchestrator.cluster.commands import status as status_there

            return status_there(settings, place, follow, verbose, json, insecure)
        from orchestrator.commands import status as status_here

        return status_here(Path(settings["runs_dir"]), submission, follow, verbose, json)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def logs(
    submission: Prefix = None,
    seed: typing.Annotated[int | None, typer.Option(help="Which seed; needed where there are several.")] = None,
    attempt: typing.Annotated[int | None, typer.Option(help="Which attempt. Default: the last.")] = None,
    follow: typing.Annotated[bool, typer.Option("-f", "--follow", help="Go on until its process ends.")] = False,
    tail: typing.Annotated[int | None, typer.Option(min=0, help="Only the last lines.")] = None,
    runs_dir: RunsDir = None,
    address: Address = None,
    state_dir: StateDir = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """What an attempt printed, while it runs and after."""

    def command() -> int:
        settings = resolve(runs_dir=runs_dir, address=address, state_dir=state_dir)
        if (place := place_of(settings, submission)) is not None:
            from orchestrator.cluster.commands import logs as logs_there

            return logs_there(place, seed, attempt, follow, tail, insecure)
        from orchestrator.commands import logs as logs_here

        return logs_here(Path(settings["runs_dir"]), submission, seed, attempt, follow, tail)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def cancel(
    submission: Prefix = None,
    seeds: typing.Annotated[str | None, typer.Option(help="Only these seeds.")] = None,
    runs_dir: RunsDir = None,
    address: Address = None,
    state_dir: StateDir = None,
    insecure: Insecure = False,
    debug: Debug = False,
) -> None:
    """End what runs of a submission, or of a grid. A run whose training is sealed keeps it; the same submit goes on.

    Where nothing runs it says so, and exits with 0. A run that another submission drives is left to that one.
    """

    def command() -> int:
        from orchestrator.spec import parse_seeds

        chosen = None if seeds is None else parse_seeds(seeds)
        settings = resolve(runs_dir=runs_dir, address=address, state_dir=state_dir)
        if (place := place_of(settings, submission)) is not None:
            from orchestrator.cluster.commands import cancel as cancel_there

            return cancel_there(settings, place, chosen, insecure)
        from orchestrator.cancel import cancel as cancel_here

        return cancel_here(Path(settings["runs_dir"]), submission, chosen)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def fetch(
    submission: Prefix = None,
    runs_dir: RunsDir = None,
    address: Address = None,
    state_dir: StateDir = None,
    insecure: Insecure = False,
    quiet: typing.Annotated[bool, typer.Option("-q", "--quiet", help="Only the submission id on stdout.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bring the attempts of a submission home from its cluster, checked, and make the tables.

    The runs folder may be a new one, on any machine that reaches the cluster. What runs there is not disturbed."""

    def command() -> int:
        settings = resolve(runs_dir=runs_dir, address=address, state_dir=state_dir)
        if (place := place_of(settings, submission)) is None:
            raise UsageError(
                f"what {settings['runs_dir']} knows of it runs on this machine, where its attempts are; "
                "--address names a cluster"
            )
        from orchestrator.cluster.commands import fetch as fetch_command

        return fetch_command(settings, place, json, quiet, insecure)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def recipes(
    name: typing.Annotated[str | None, typer.Argument(help="One recipe, with all its fields, or one grid.")] = None,
    rehearse: typing.Annotated[
        bool,
        typer.Option("--rehearse", help="Build NAME at full size on this CPU: one pass, round, compress, reload."),
    ] = False,
    set_: Sets = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """The recipes and grids: parameters, estimated bytes, source, command, published score.

    With a NAME the model is built and counted, and every field shown."""

    def command() -> int:
        from orchestrator.catalogue import recipes as recipes_command

        if set_ and name is None:
            raise UsageError("--set needs the NAME of the recipe that it changes")
        if rehearse and name is None:
            raise UsageError("--rehearse needs the NAME of a recipe")
        return recipes_command(name, set_ or (), json, rehearse)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def doctor(
    on: typing.Annotated[
        str | None, typer.Option(help="ray: try the local Ray, or with --address each node of that cluster.")
    ] = None,
    address: Address = None,
    data: DataFolder = None,
    tokenizer: Tokenizer = None,
    runs_dir: RunsDir = None,
    node_dir: typing.Annotated[str | None, typer.Option(help="On each node. Default: ~/golf-node.")] = None,
    hub: typing.Annotated[bool, typer.Option("--hub", help="Ask also whether the hub of the data answers.")] = False,
    insecure: Insecure = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """What a submit from here would stand on: Python, packages, torch, disk, GPUs, credentials (never shown), and every
    shard against its manifest; each with the mend. Starts nothing without --on or --address.

    Of a cluster: address, token, job server, and each node: packages against the lock and each other, GPUs declared
    against real ones, disk, clock, and with --data the shards there.

    Exit code 0 where nothing is wrong, warnings or not; 2 for data and settings, 5 for machines."""

    def command() -> int:
        from orchestrator.backends import check_backend
        from orchestrator.doctor.machine import doctor as doctor_command

        settings = resolve(on=on, address=address, data=data, tokenizer=tokenizer, runs_dir=runs_dir, node_dir=node_dir)
        on_ray = address is not None or (on is not None and check_backend(on) == "ray")
        return doctor_command(settings, hub, json, on_ray, insecure)

    run(debug, command)


def main() -> None:
    app(prog_name="python -m orchestrator")


__all__ = ["USAGE", "app", "main"]
