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
from orchestrator import options
from orchestrator.errors import BACKEND, EXIT_CODES, INTERRUPTED, USAGE, CommandError, UsageError
from orchestrator.settings import Settings

if typing.TYPE_CHECKING:
    from orchestrator.cloud.there import Sent
    from orchestrator.place import Place

app = typer.Typer(
    name="orchestrator",
    help="Sends runs out and brings sealed attempts back: from a recipe and seeds to a checkable submission folder.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


def resolve(**flags: typing.Any) -> Settings:
    return Settings.resolve(flags, os.environ, Path("."))


def locate(submission: str | None, **flags: typing.Any) -> "tuple[Settings, Place | None, Sent | None]":
    """The settings, and where by them the submission runs: on a cluster, on Modal, else on this machine."""
    from orchestrator.cloud.there import sent_of, tell_newer
    from orchestrator.place import place_of

    settings = resolve(**flags)
    if settings.source("address") != "--address" and (sent := sent_of(settings, submission)) is not None:
        tell_newer(settings, sent)
        return settings, None, sent
    return settings, place_of(settings, submission), None


@app.command(epilog=EXIT_CODES)
def submit(
    seeds: options.Seeds = None,
    recipe: options.Recipe = None,
    set_: options.Sets = None,
    on: options.On = None,
    policy: options.Policy = None,
    runs_dir: options.RunsDir = None,
    data: options.DataFolder = None,
    tokenizer: options.Tokenizer = None,
    device: options.Device = None,
    gpus: options.Gpus = None,
    max_gpus: options.MaxGpus = None,
    address: options.Address = None,
    state_dir: options.StateDir = None,
    node_dir: options.NodeDir = None,
    storage: options.Storage = None,
    modal_packages: options.ModalPackages = None,
    modal_secret: options.ModalSecret = None,
    modal_environment: options.ModalEnvironment = None,
    budget: options.Budget = None,
    price: options.Price = None,
    provider: options.Provider = None,
    max_attempts: options.MaxAttempts = None,
    dead_man_seconds: options.DeadManSeconds = None,
    parallel: options.Parallel = False,
    detach: options.Detach = False,
    no_rehearsal: options.NoRehearsal = False,
    install_packages: options.InstallPackages = False,
    insecure: options.Insecure = False,
    grid: options.Grid = None,
    processes: options.Processes = None,
    threads: options.Threads = None,
    dtype: options.Dtype = None,
    launcher: options.Launcher = None,
    startup_seconds: options.StartupSeconds = None,
    silence_seconds: options.SilenceSeconds = None,
    bundle: options.Bundle = None,
    script: options.Script = None,
    env: options.Env = None,
    artifact: options.Artifact = None,
    retry_failed: options.RetryFailed = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Train, score and package every seed of a recipe, or run a script for each. The same submit again resumes, or
    prints the finished table.

    Of a grid: every variant, side by side as there is room, with the same seeds and --set; the worst exit code counts.
    Of a script: its numbers are read from its log, and gates that need our evaluator stay unknown.

    Settings: flag, else GOLF_* environment variable, else golf.toml, else default; the plan shows which.
    """

    def command() -> int:
        from orchestrator.request import Request
        from orchestrator.submit import submit as submit_command

        settings = resolve(
            seeds=seeds, recipe=recipe, on=on, policy=policy, runs_dir=runs_dir, data=data, tokenizer=tokenizer,
            device=device, gpus=gpus, max_gpus=max_gpus, address=address, state_dir=state_dir,
            node_dir=node_dir, storage=storage, modal_packages=modal_packages, modal_secret=modal_secret,
            modal_environment=modal_environment, budget=budget, price=price, provider=provider,
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
            detach=detach,
        )
        return submit_command(settings, request)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def status(
    submission: options.Prefix = None,
    follow: typing.Annotated[bool, typer.Option("-f", "--follow", help="Live, until its process ends.")] = False,
    verbose: typing.Annotated[bool, typer.Option("-v", "--verbose", help="The story in sentences.")] = False,
    on: options.OnThere = None,
    runs_dir: options.RunsDir = None,
    address: options.Address = None,
    state_dir: options.StateDir = None,
    insecure: options.Insecure = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """How a submission stands, a row a seed. One that was sent to a cluster is asked for there."""

    def command() -> int:
        settings, place, sent = locate(submission, on=on, runs_dir=runs_dir, address=address, state_dir=state_dir)
        if sent is not None:
            from orchestrator.cloud.commands import status as status_on_modal

            return status_on_modal(settings, sent, follow, verbose, json)
        if place is not None:
            from orchestrator.cluster.commands import status as status_there

            return status_there(settings, place, follow, verbose, json, insecure)
        from orchestrator.commands import status as status_here

        return status_here(Path(settings["runs_dir"]), submission, follow, verbose, json)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def logs(
    submission: options.Prefix = None,
    seed: typing.Annotated[int | None, typer.Option(help="Which seed; needed where there are several.")] = None,
    attempt: typing.Annotated[int | None, typer.Option(help="Which attempt. Default: the last.")] = None,
    follow: typing.Annotated[bool, typer.Option("-f", "--follow", help="Go on until its process ends.")] = False,
    tail: typing.Annotated[int | None, typer.Option(min=0, help="Only the last lines.")] = None,
    on: options.OnThere = None,
    runs_dir: options.RunsDir = None,
    address: options.Address = None,
    state_dir: options.StateDir = None,
    insecure: options.Insecure = False,
    debug: options.Debug = False,
) -> None:
    """What an attempt printed, while it runs and after."""

    def command() -> int:
        settings, place, sent = locate(submission, on=on, runs_dir=runs_dir, address=address, state_dir=state_dir)
        if sent is not None:
            from orchestrator.cloud.commands import logs as logs_on_modal

            return logs_on_modal(settings, sent, seed, attempt, follow, tail)
        if place is not None:
            from orchestrator.cluster.commands import logs as logs_there

            return logs_there(place, seed, attempt, follow, tail, insecure)
        from orchestrator.commands import logs as logs_here

        return logs_here(Path(settings["runs_dir"]), submission, seed, attempt, follow, tail)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def cancel(
    submission: options.Prefix = None,
    seeds: typing.Annotated[str | None, typer.Option(help="Only these seeds.")] = None,
    on: options.OnThere = None,
    runs_dir: options.RunsDir = None,
    address: options.Address = None,
    state_dir: options.StateDir = None,
    insecure: options.Insecure = False,
    debug: options.Debug = False,
) -> None:
    """End what runs of a submission, or of a grid. A run whose training is sealed keeps it; the same submit goes on.

    Where nothing runs it says so, and exits with 0. A run that another submission drives is left to that one.
    """

    def command() -> int:
        from orchestrator.spec import parse_seeds

        chosen = None if seeds is None else parse_seeds(seeds)
        settings, place, sent = locate(submission, on=on, runs_dir=runs_dir, address=address, state_dir=state_dir)
        if sent is not None:
            from orchestrator.cloud.commands import cancel as cancel_on_modal

            return cancel_on_modal(settings, sent, chosen)
        if place is not None:
            from orchestrator.cluster.commands import cancel as cancel_there

            return cancel_there(settings, place, chosen, insecure)
        from orchestrator.cancel import cancel as cancel_here

        return cancel_here(Path(settings["runs_dir"]), submission, chosen)

    run(debug, command)


@app.command(epilog=EXIT_CODES)
def fetch(
    submission: options.Prefix = None,
    on: options.OnThere = None,
    runs_dir: options.RunsDir = None,
    address: options.Address = None,
    state_dir: options.StateDir = None,
    insecure: options.Insecure = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Bring the attempts of a submission home from its cluster, checked, and make the tables.

    The runs folder may be a new one, on any machine that reaches the cluster. What runs there is not disturbed."""

    def command() -> int:
        settings, place, sent = locate(submission, on=on, runs_dir=runs_dir, address=address, state_dir=state_dir)
        if sent is not None:
            from orchestrator.cloud.commands import fetch as fetch_on_modal

            return fetch_on_modal(settings, sent, json, quiet)
        if place is None:
            raise UsageError(
                f"{settings['runs_dir']} knows of nothing that was sent from here to a cluster or to Modal, and what "
                "runs on this machine is here: --address names a cluster, --on modal Modal"
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
    set_: options.Sets = None,
    json: options.Json = False,
    debug: options.Debug = False,
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
        str | None,
        typer.Option(help="ray: try the local Ray, or with --address each node of that cluster. modal: the account."),
    ] = None,
    address: options.Address = None,
    data: options.DataFolder = None,
    tokenizer: options.Tokenizer = None,
    runs_dir: options.RunsDir = None,
    node_dir: typing.Annotated[str | None, typer.Option(help="On each node. Default: ~/golf-node.")] = None,
    hub: typing.Annotated[bool, typer.Option("--hub", help="Ask also whether the hub of the data answers.")] = False,
    insecure: options.Insecure = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """What a submit from here would stand on: Python, packages, torch, disk, GPUs, credentials (never shown), and every
    shard against its manifest; each with the mend. Starts nothing without --on or --address.

    Of a cluster: address, token, job server, and each node: packages against the lock and each other, GPUs declared
    against real ones, disk, clock, and with --data the shards there.

    Of Modal: client, token, server, what is deployed, and with --data the folder on its volume. No container starts.

    Exit code 0 where nothing is wrong, warnings or not; 2 for data and settings, 5 for machines."""

    def command() -> int:
        from orchestrator.backends import MODAL, check_backend
        from orchestrator.doctor.machine import doctor as doctor_command

        settings = resolve(on=on, address=address, data=data, tokenizer=tokenizer, runs_dir=runs_dir, node_dir=node_dir)
        where = check_backend(on) if on is not None else None
        if on is None and settings["address"] is None and settings["on"] == MODAL:
            where = MODAL
        if where == MODAL and address is not None:
            raise UsageError(f"--address {address} is of a Ray cluster; --on modal looks at the account of its token")
        return doctor_command(settings, hub, json, "ray" if address is not None else where, insecure)

    run(debug, command)


def main() -> None:
    app(prog_name="python -m orchestrator")


__all__ = ["USAGE", "app", "main"]
