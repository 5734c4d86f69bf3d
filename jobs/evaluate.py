"""`modal run jobs/evaluate.py --attempt ATTEMPT_ID`: a sealed artifact on Modal's volume of runs, scored again.

A fresh container of the attempt's own kind loads the artifact by the attempt's own bundle, and nothing else of it.
What comes out is kept beside the runs, and held against what was sealed. `python jobs/evaluate.py` does the same.
"""

import json as json_module
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import modal
import typer

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path and (ROOT / "orchestrator").is_dir():
    sys.path.insert(0, str(ROOT))  # where it is run from another folder

from golf_core.rundir import RUN, SEAL  # noqa: E402
from orchestrator import options  # noqa: E402
from orchestrator.attempts import ATTEMPTS  # noqa: E402
from orchestrator.cli import resolve, run  # noqa: E402
from orchestrator.cloud.entry import check_before_client  # noqa: E402
from orchestrator.cloud.gpus import CloudGpus, cloud_gpus, of_driver_name  # noqa: E402
from orchestrator.cloud.image import read_packages  # noqa: E402
from orchestrator.cloud.options import RUNS_VOLUME, AppOptions, timeout_of  # noqa: E402
from orchestrator.cloud.rescore import BPB_TOLERANCE, RescoreError, Row, compare  # noqa: E402
from orchestrator.cloud.site import CPU_DTYPE, asking, open_cloud  # noqa: E402
from orchestrator.errors import FAILED, GATE, OK, BackendFailure, BudgetRefused, UsageError  # noqa: E402
from orchestrator.hardware.request import read_request  # noqa: E402
from orchestrator.money.cost import usd  # noqa: E402
from orchestrator.money.prices import Price, price_of_container  # noqa: E402
from orchestrator.script import SCRIPT  # noqa: E402
from orchestrator.settings import Settings  # noqa: E402
from orchestrator.spec import Limits  # noqa: E402

if typing.TYPE_CHECKING:
    from orchestrator.backends.modal_client import Cloud

CODES = (
    "Exit codes: 0 the same scores · 1 the evaluation failed · 2 usage · 4 other scores · 5 Modal · 6 budget refused · "
    "130 interrupted"
)
SCHEMA_VERSION = 1
NAMED = 8  # attempts in a message

check_before_client(sys.argv)
app = modal.App("parameter-golf-evaluate")
command = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})

Attempt = typing.Annotated[str | None, typer.Option(help="Its id, or what it begins with.")]
ArtifactPath = typing.Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Of a file in the volume of runs: an attempt's artifact.bin; with --attempt another one, by its bundle.",
    ),
]
Gpus = typing.Annotated[
    str | None, typer.Option(help="Another machine than the attempt's: MODEL:COUNT, or 0 for a CPU.")
]
Budget = typing.Annotated[float | None, typer.Option(help="USD that this may cost; needed where it takes GPUs.")]
Tolerance = typing.Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help=f"BPB by which a stage may differ. Default: {BPB_TOLERANCE:g}; nothing where both are of a CPU.",
    ),
]


@app.local_entrypoint()
def main(*flags: str) -> None:
    """Score a sealed artifact again; every flag of `python jobs/evaluate.py`."""
    command(list(flags), prog_name="modal run jobs/evaluate.py")


@command.command(no_args_is_help=True, epilog=CODES)
def evaluate(
    attempt: Attempt = None,
    artifact: ArtifactPath = None,
    gpus: Gpus = None,
    tolerance: Tolerance = None,
    budget: Budget = None,
    price: options.Price = None,
    modal_packages: options.ModalPackages = None,
    modal_secret: options.ModalSecret = None,
    modal_environment: options.ModalEnvironment = None,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Score the sealed artifact of an attempt on Modal again, from the artifact alone, and compare.

    \b
    modal run jobs/evaluate.py --attempt 0a1b2c3d4e5f-a1 --budget 20
    modal run jobs/evaluate.py --artifact attempts/0a1b2c3d4e5f-a1/artifact.bin --gpus H100:1 --budget 5
    """

    def work() -> int:
        settings = resolve(
            gpus=gpus, price=price, modal_packages=modal_packages, modal_secret=modal_secret,
            modal_environment=modal_environment,
        )  # fmt: skip
        cloud = open_cloud(settings)
        with asking():
            name, other = find(cloud, attempt, artifact)
            asked = asked_of(cloud, name)
        target, change = target_of(asked, settings if gpus is not None else None)
        opts = options_of(target, asked, settings)
        check_budget(target, opts, settings, budget)
        told = in_container(opts, name, other, change)
        exact = target["device"] == "cpu" and not change
        return show(name, told, tolerance if tolerance is not None or exact else BPB_TOLERANCE, other, json)

    run(debug, work)


def find(cloud: "Cloud", attempt: str | None, artifact: str | None) -> tuple[str, str | None]:
    """The attempt, and an artifact that is not its own. Raises UsageError."""
    place = artifact.strip("/").removeprefix("runs/") if artifact is not None else ""
    if attempt is None:
        parts = place.split("/")
        if len(parts) != 3 or parts[0] != ATTEMPTS:
            raise UsageError("--attempt ID names what is scored, or --artifact attempts/ID/artifact.bin")
        attempt = parts[1]
    there = cloud.folders(ATTEMPTS)
    found = [name for name in there if name.startswith(attempt.removeprefix(f"{ATTEMPTS}/"))]
    found = [attempt] if attempt in found else found
    if len(found) != 1:
        what = "is several" if found else "is none"
        known = ", ".join((found or there)[:NAMED]) + (", …" if (found or there)[NAMED:] else "") or "none yet"
        raise UsageError(f"--attempt {attempt}: {what} of the attempts on the volume {RUNS_VOLUME}; there are {known}")
    if SEAL not in cloud.listing(f"{ATTEMPTS}/{found[0]}"):
        raise UsageError(f"{found[0]} is not sealed: it failed, or still runs; only sealed evidence is scored again")
    if artifact is not None and place.rpartition("/")[2] not in cloud.listing(place.rpartition("/")[0]):
        raise UsageError(f"--artifact {artifact}: there is no such file on the volume {RUNS_VOLUME}")
    own = artifact is None or place == f"{ATTEMPTS}/{found[0]}/artifact.bin"
    return found[0], None if own else place


def asked_of(cloud: "Cloud", name: str) -> dict[str, typing.Any]:
    """What was asked of an attempt. Raises UsageError for one that sealed no artifact of a bundle."""
    asked: dict[str, typing.Any] = json_module.loads(cloud.read(f"{ATTEMPTS}/{name}/{RUN}") or b"{}")
    if asked.get("kind") == SCRIPT:
        raise UsageError(
            f"{name} is of a script, which trained and scored in one go: there is no artifact of a recipe to load. "
            "`python -m results collect` reads its log"
        )
    return asked


def target_of(
    asked: Mapping[str, typing.Any], settings: Settings | None
) -> tuple[dict[str, typing.Any], dict[str, typing.Any]]:
    """What it runs on, and how that differs from the attempt's own. Raises UsageError."""
    try:
        target: dict[str, typing.Any] = dict(asked["target"])
        one = str(target["launcher"]) == "python"
    except (KeyError, TypeError):
        raise UsageError(f"{RUN} of the attempt tells no target; it is none of ours") from None
    if settings is None:
        return target, {}
    request = read_request(settings)
    if request is None or not request.count:
        change = {"device": "cpu", "gpu": None, "gpus": 0, "processes": 1, "dtype": CPU_DTYPE}
    else:
        gpus = cloud_gpus(request, f"--gpus {settings['gpus']}")
        change = {"device": "cuda", "gpu": gpus.name, "gpus": gpus.count, "processes": 1 if one else gpus.count}
    change = {name: value for name, value in change.items() if target.get(name) != value}
    return target | change, change


def options_of(target: Mapping[str, typing.Any], asked: Mapping[str, typing.Any], settings: Settings) -> AppOptions:
    gpus = gpus_of(target)
    packages = read_packages(settings["modal_packages"], settings.source("modal_packages"), ROOT)
    return AppOptions(
        gpu=None if gpus is None else gpus.asked,
        timeout_s=timeout_of(Limits(**asked["limits"]).attempt_s),
        packages=packages,
        secret=settings["modal_secret"],
    )


def gpus_of(target: Mapping[str, typing.Any]) -> CloudGpus | None:
    if target["device"] != "cuda":
        return None
    try:
        return of_driver_name(str(target["gpu"]), int(target["gpus"]))
    except StopIteration:
        raise UsageError(f"Modal has no {target['gpu']}, which the attempt ran on; --gpus names another") from None


def check_budget(target: Mapping[str, typing.Any], opts: AppOptions, settings: Settings, budget: float | None) -> None:
    """Raises BudgetRefused, or UsageError where nobody gave one."""
    if opts.gpu is None:
        return
    price: Price = price_of_container(
        target["gpu"], opts.gpus, opts.cores, opts.memory_mib / 1024,
        provider="modal", given=settings["price"], place=settings.source("price"),
    )  # fmt: skip
    worst = price.usd(opts.timeout_s)
    told = f"{opts.gpu} for {opts.timeout_s:,} s at most costs {usd(worst)} ({price.describe()})"
    if budget is None:
        raise UsageError(f"{told}; --budget USD says that it may")
    if worst is None or worst > budget:
        raise BudgetRefused(f"budget refused: {told}; --budget {budget:g} does not cover it")
    print(told, file=sys.stderr, flush=True)


def in_container(
    opts: AppOptions, name: str, artifact: str | None, change: Mapping[str, typing.Any]
) -> dict[str, typing.Any]:
    from jobs.on_modal import call, declare

    declare(opts)
    from jobs.rescoring import app as rescoring
    from jobs.rescoring import evaluate as evaluate_there

    print(f"{name}: its artifact is scored again on {opts.gpu or 'a CPU'}", file=sys.stderr, flush=True)
    told: dict[str, typing.Any] = call(rescoring, evaluate_there, name, artifact, dict(change) or None)
    if "error" in told:
        raise BackendFailure(told["error"])
    return told


def show(name: str, told: Mapping[str, typing.Any], tolerance: float | None, other: str | None, as_json: bool) -> int:
    """A line a stage on stdout; the exit code."""
    result = told["result"]
    place = f"{told['place']} of the volume {RUNS_VOLUME}"
    if told["scores"] is None:
        print(f"error: {name}: {result['class']}: {result['message']}; its log is in {place}", file=sys.stderr)
        return FAILED
    try:
        rows = compare(told["sealed"]["scores"], told["scores"], tolerance)
    except RescoreError as error:
        raise BackendFailure(f"{name}: {error}") from None
    ledger = told["ledger"] == told["sealed"]["ledger"]
    same = bool(rows) and all(row.equal for row in rows) and (ledger or tolerance is not None)
    if as_json:
        facts = {
            "schema_version": SCHEMA_VERSION, "attempt": name, "artifact": other,
            "artifact_sha256": told["artifact_sha256"], "place": told["place"], "tolerance": tolerance or 0.0,
            "score_ledger_equal": ledger, "same": same,
            "stages": [vars(row) | {"difference": row.difference} for row in rows],
        }  # fmt: skip
        print(json_module.dumps(facts, indent=1))
    else:
        print_rows(rows)
    how = "to the last digit, score ledger included" if tolerance is None else f"within {tolerance:g} BPB"
    verdict = f"the same scores, {how}" if same else f"NOT the same scores ({how} was asked)"
    what = f"{other} by the bundle of {name}" if other else name
    print(f"{what}: {verdict}; kept in {place}", file=sys.stderr)
    if not same and tolerance is None:
        print("note: another kind of processor may give other last digits; --tolerance allows them", file=sys.stderr)
    return OK if same else GATE


def print_rows(rows: Sequence[Row]) -> None:
    print(f"{'stage':<12}{'sealed BPB':>16}{'scored again':>16}{'difference':>14}")
    for row in rows:
        told = ["-" if value is None else f"{value:.8f}" for value in (row.sealed, row.again)]
        difference = "-" if row.difference is None else f"{row.difference:+.2e}" if row.difference else "0"
        print(f"{row.stage:<12}{told[0]:>16}{told[1]:>16}{difference:>14}" + ("" if row.equal else "  differs"))


if __name__ == "__main__":
    command()
