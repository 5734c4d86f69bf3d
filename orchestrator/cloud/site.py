"""Modal as a place to run on: its data volume gives the data, its volume of runs what is there already.

Nothing here starts a container: a plan costs nothing. What it rests on are two lists of files and the claims.
"""

import contextlib
import os
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from golf_core.config import Config
from golf_core.policy import Policy
from golf_core.recipes import Grid, Recipe
from golf_core.rundir import RESULT, SEAL, TRAIN_SEAL, VOID
from orchestrator.attempts import ATTEMPTS, FOLDER, Attempt, counted, inspect_all, key_of
from orchestrator.backends.base import Backend, BackendError, Job
from orchestrator.checkout import ROOT
from orchestrator.cloud.access import read_access
from orchestrator.cloud.chains import Following
from orchestrator.cloud.gpus import CloudGpus, cloud_gpus
from orchestrator.cloud.image import read_packages
from orchestrator.cloud.options import MAX_CONTAINERS, AppOptions, options_of
from orchestrator.cloud.there import lay_down, mark_sent, publish, publish_grid, read_object
from orchestrator.cloud.volume_data import DataOnVolume, DataVolume
from orchestrator.data_check import EmbeddedThere
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.hardware.request import read_request
from orchestrator.ledger.store import Ledger
from orchestrator.limits import limits_of
from orchestrator.money.cost import ATTEMPTS as MOST_ATTEMPTS
from orchestrator.money.cost import Cost, usd
from orchestrator.plan import Line, Plan
from orchestrator.settings import DEFAULT, Settings
from orchestrator.site import Check, checked_target
from orchestrator.spec import Submission, Target, attempt_id

if typing.TYPE_CHECKING:
    from orchestrator.backends.modal_client import Cloud

OURS = "default on Modal"  # source of GPUs that nobody named
RECORD_GPUS, NO_GPUS = "H100:8", "0"
CPU_DTYPE = "fp32"  # of a processor that nobody here knows
ENVIRONMENT = "MODAL_ENVIRONMENT"
ASKED_AT_ONCE = 8  # submissions of a grid that are sent side by side


@contextlib.contextmanager
def asking() -> Iterator[None]:
    """Trouble with Modal ends the command."""
    try:
        yield
    except BackendError as error:
        raise BackendFailure(str(error)) from error


def open_cloud(settings: Settings) -> "Cloud":
    """The account. Raises CommandError where it cannot be reached."""
    if settings["modal_environment"] is not None:
        os.environ[ENVIRONMENT] = settings["modal_environment"]  # before the client is imported: it reads it then
    read_access(os.environ, Path.home())  # the client cannot even be imported with a broken configuration
    from orchestrator.backends.modal_client import Cloud

    with asking():
        return Cloud()


class ModalSite:
    def __init__(self, settings: Settings, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.packages = read_packages(settings["modal_packages"], settings.source("modal_packages"), ROOT)
        self.secret = settings["modal_secret"]
        self.cloud = open_cloud(settings)
        self.volume = DataVolume(self.cloud)

    # The settings and the target

    def settings_of_request(self, settings: Settings) -> Settings:
        """With the device that follows from `--gpus`; where nobody named any, those of a record."""
        if read_request(settings) is None:
            wanted = NO_GPUS if _given(settings, "device", "cpu") else RECORD_GPUS
            settings = settings.with_default("gpus", wanted, OURS)
        return self._of_gpus(settings)

    def settings_of_plan(self, found: Recipe | Grid | None, settings: Settings) -> Settings:
        """What a recipe is meant for, where nobody named GPUs."""
        if found is None or settings.source("gpus") != OURS or found.target == RECORD_GPUS:
            return settings
        meant = NO_GPUS if found.target.partition(":")[0] == "cpu" else found.target
        return self._of_gpus(settings.replaced("gpus", meant, f"meant for {found.target}"))

    def _of_gpus(self, settings: Settings) -> Settings:
        request, place = read_request(settings), f"{settings.source('gpus')}={settings['gpus']}"
        assert request is not None
        if request.count:
            cloud_gpus(request, place)
        device = "cuda" if request.count else "cpu"
        if settings.source("device") != DEFAULT and settings["device"] != device:
            if settings.source("device").startswith("default"):
                return settings.replaced("device", device, settings.source("gpus"))
            raise UsageError(f"{place} and {settings.source('device')}={settings['device']} contradict each other")
        source = settings.source("gpus")
        return settings.for_device(device, f"{source}, on Modal" if source.startswith("--") else source)

    def target(self, settings: Settings, config: Config | None) -> Target:
        gpus, processes = self.gpus(settings), settings["processes"]
        count = 0 if gpus is None else gpus.count
        if processes is None:
            processes = count if count and settings["launcher"] != "python" else 1
        if count and processes != count:
            raise UsageError(f"processes={processes} and {count} GPUs: every process has one of its own")
        return checked_target(
            settings,
            config,
            gpu=None if gpus is None else gpus.name,
            gpus=count,
            processes=processes,
            dtype="bf16" if count else CPU_DTYPE,
        )

    def gpus(self, settings: Settings) -> CloudGpus | None:
        request = read_request(settings)
        if request is None or not request.count:
            return None
        return cloud_gpus(request, f"{settings.source('gpus')}={settings['gpus']}")

    def options(self, target: Target, attempt_s: float) -> AppOptions:
        return options_of(target, attempt_s, self.packages, self.secret)

    # The data

    def check(self, settings: Settings, vocab: int | None) -> Check:
        if settings["data"] is None:
            return EmbeddedThere(settings["tokenizer"], vocab)
        return DataOnVolume(self.volume, settings["data"], settings["tokenizer"], vocab)

    def warm_up(self, settings: Settings) -> None:
        pass

    # What is there

    def attempts(self, submissions: Sequence[Submission]) -> Mapping[str, Sequence[Attempt]]:
        """Here and on the volume. Those that are here already are read here."""
        there: dict[str, list[int]] = {}
        for name in self.cloud.folders(ATTEMPTS):
            if match := FOLDER.fullmatch(name):
                there.setdefault(match[1], []).append(int(match[2]))
        found = {}
        for run in (run for one in submissions for run in one.runs):
            here = inspect_all(self.runs_dir, run.run_id)
            known = {one.number for one in here if one.state in ("counted", "void", "failed", "damaged")}
            others = [
                self._there(run.run_id, number) for number in there.get(key_of(run.run_id), ()) if number not in known
            ]
            kept = [one for one in here if one.number in known or one.number not in {it.number for it in others}]
            found[run.run_id] = sorted([*kept, *others], key=lambda one: one.number)
        return found

    def _there(self, run_id: str, number: int) -> Attempt:
        """As its files say; whether a call still works at it is not asked."""
        name = attempt_id(run_id, number)
        listing = self.cloud.listing(f"{ATTEMPTS}/{name}")
        folder, sealed = self.runs_dir / ATTEMPTS / name, TRAIN_SEAL in listing
        if VOID in listing:
            return Attempt(folder, number, "void", "preempted")
        if SEAL in listing:
            return Attempt(folder, number, "counted", "completed", train_sealed=True)
        if RESULT in listing:
            told = read_object(self.cloud, f"{ATTEMPTS}/{name}/{RESULT}")
            cls, stage, message = (str(told.get(key) or "") for key in ("class", "stage", "message"))
            return Attempt(folder, number, "failed", cls, stage, message, sealed)
        return Attempt(folder, number, "busy", stage="evaluate" if sealed else "train", train_sealed=sealed)

    def rows(self, settings: Settings, plans: Sequence[Plan]) -> list[Line]:
        """For the plan."""
        from orchestrator.backends.modal_deploy import is_deployed

        found = []
        for options in {
            self.options_of_plan(plan, settings).name: self.options_of_plan(plan, settings) for plan in plans
        }.values():
            deployed = "deployed" if is_deployed(self.cloud, options) else "to be deployed first"
            what = f"{options.gpu or 'no GPU'}, {options.cores:g} cores, {options.memory_mib / 1024:g} GiB"
            most = MAX_CONTAINERS * options.gpus if settings["max_gpus"] is None else settings["max_gpus"]
            at_once = f", {most} GPUs at once" if options.gpus else ""
            found.append(
                (
                    "modal",
                    f"app {options.name}, {deployed}; {what}, {options.timeout_s:,} s a call{at_once}",
                    self.cloud.access.server_url,
                )
            )
        first = [
            plan.rehearsal.cost for plan in plans if plan.rehearsal is not None and plan.rehearsal.cost is not None
        ]
        if (why := _no_budget(settings, [*first, *(plan.cost for plan in plans)])) is not None:
            found.append(("refused", why, "submit stops here"))
        return found

    def options_of_plan(self, plan: Plan, settings: Settings) -> AppOptions:
        return self.options(plan.submission.target, limits_of(plan.submission, settings).attempt_s)

    def to_dict(self, settings: Settings, plans: Sequence[Plan]) -> dict[str, typing.Any]:
        apps = sorted({self.options_of_plan(plan, settings).name for plan in plans})
        return {"apps": apps, "environment": self.cloud.access.environment, "server": self.cloud.access.server_url}

    def check_budget(self, settings: Settings, costs: Sequence[tuple[str, Cost]]) -> None:
        """Raises UsageError where something is paid for and nobody said how much it may be."""
        if (why := _no_budget(settings, [cost for _, cost in costs])) is not None:
            raise UsageError(why)

    # Running

    def enter(self, submissions: Sequence[Submission], ledger: Ledger, grid: str | None = None) -> bool:
        """Let every machine with the account find them; lay down here the attempts that are there already. Whether
        any run is not home yet."""
        with asking():
            if grid is not None:
                publish_grid(grid, [one.submission_id for one in submissions], self.cloud)
            for submission in submissions:
                mark_sent(ledger, submission.submission_id, self.cloud.access.environment)
            with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
                list(pool.map(lambda one: publish(one, self.runs_dir, self.cloud), submissions))
            lay_down(submissions, self.cloud, ledger)
        run_ids = [run.run_id for one in submissions for run in one.runs]
        return any(counted(inspect_all(self.runs_dir, run_id)) is None for run_id in run_ids)

    def backend(
        self, plans: Sequence[Plan], settings: Settings, parallel: bool, note: Callable[[str], None]
    ) -> Backend:
        from orchestrator.backends.modal_backend import Known, ModalBackend

        everything = [plan.submission for plan in plans]
        everything += [
            it for plan in plans if plan.rehearsal is not None and (it := plan.rehearsal.submission) is not None
        ]
        begun = self.attempts([plan.submission for plan in plans])
        asked = {key_of(run.run_id): one for one in everything for run in one.runs}

        def options_of(job: Job) -> AppOptions:
            """As its plan told, and its price: what a call may take at most is the app's."""
            submission = asked[job.attempt_id.rpartition("-a")[0]]
            return self.options(submission.target, limits_of(submission, settings).attempt_s)

        return ModalBackend(
            self.runs_dir,
            self.cloud,
            note,
            options_of=options_of,
            known={key_of(run.run_id): Known(one.submission_id, run.seed) for one in everything for run in one.runs},
            following={
                plan.submission.submission_id: self._following(plan, settings, parallel, begun) for plan in plans
            },
            max_gpus=settings["max_gpus"],
            restarts=(settings["max_attempts"] or MOST_ATTEMPTS) - 1,
        )

    def _following(
        self, plan: Plan, settings: Settings, parallel: bool, begun: Mapping[str, Sequence[Attempt]]
    ) -> Following:
        """Seeds of which nothing is there yet: their containers begin each other, should we be gone."""
        submission, limits = plan.submission, limits_of(plan.submission, settings)
        new = [run for run in submission.runs if not begun[run.run_id]]
        gpus = submission.target.gpus
        lanes = MAX_CONTAINERS if settings["max_gpus"] is None or not gpus else settings["max_gpus"] // gpus
        done = any(counted(list(begun[run.run_id])) is not None for run in submission.runs)
        canary: Policy | None = None if parallel or done or plan.cost.free or not gpus else submission.policy
        runs = tuple(submission.run_json(run, 1, limits) for run in new)
        return Following(runs, canary, max(1, min(lanes, MAX_CONTAINERS)))


def _no_budget(settings: Settings, costs: Sequence[Cost]) -> str | None:
    """Why a submit is refused that is paid for while nobody said how much it may be."""
    if settings["budget"] is not None or all(cost.free for cost in costs):
        return None
    worst = [cost.worst_usd for cost in costs if not cost.free]
    told = usd(None if None in worst else sum(one or 0.0 for one in worst))
    return (
        f"Modal is paid for by the second, and no budget is set: this may cost {told} at worst. Give --budget USD, "
        "or budget = USD in golf.toml: what this runs folder may ever cost"
    )


def _given(settings: Settings, name: str, value: str) -> bool:
    return settings.source(name) != DEFAULT and settings[name] == value
