"""From what is asked for to what would run: recipe, grid or script; here, on a cluster, on Modal. Starts nothing."""

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from golf_core.config import Config
from golf_core.recipes import Grid, Recipe
from orchestrator.backends import MODAL, load_backend
from orchestrator.backends.base import Backend
from orchestrator.catalogue import find
from orchestrator.default_policy import settings_of_policy
from orchestrator.drive import spec_there
from orchestrator.errors import UsageError
from orchestrator.grids.file import use_grid_file
from orchestrator.grids.plan import settings_of_grid
from orchestrator.money.cost import Cost
from orchestrator.money.rehearsal import Rehearsed, plan_rehearsal
from orchestrator.money.spending import beside_seconds
from orchestrator.other_seeds import Asked, find_other_seeds
from orchestrator.plan import Plan, make_plan
from orchestrator.preflight import Prepared, check_folder, prepare, prepare_script
from orchestrator.request import Request, check_request
from orchestrator.settings import Settings
from orchestrator.site import Site, ThisMachine

if typing.TYPE_CHECKING:
    from orchestrator.cloud.site import ModalSite
    from orchestrator.cluster.site import Cluster

OF_A_CLUSTER = ("state_dir", "node_dir", "storage")
OF_MODAL = ("modal_packages", "modal_secret", "modal_environment")


@dataclass(frozen=True)
class PlannedSubmit:
    """All that a submit would run, and what its submissions share."""

    plans: tuple[Plan, ...]
    settings: Settings  # as they follow from what was asked for
    request: Request
    grid: Grid | None = None
    cluster: "Cluster | None" = None  # that runs it, controller and all
    cloud: "ModalSite | None" = None  # where attempts execute; without these two it is this machine

    @property
    def runs_dir(self) -> Path:
        return Path(self.settings["runs_dir"])

    @property
    def quiet(self) -> bool:
        """Whether stdout is for one answer, that a program reads."""
        return self.request.json or self.request.quiet

    def open_backend(self, note: Callable[[str], None]) -> Callable[[], Backend]:
        """Where attempts execute that a controller in this process drives."""
        if self.cloud is None:
            return lambda: load_backend(self.settings["on"], self.runs_dir)
        cloud = self.cloud
        return lambda: cloud.backend(self.plans, self.settings, self.request.parallel, note)

    @property
    def costs(self) -> list[tuple[str, Cost]]:
        """Of each submission, and of what rehearses for it."""
        found = []
        for plan in self.plans:
            first = plan.rehearsal
            if first is not None and first.submission is not None and first.cost is not None:
                found.append((first.submission.submission_id, first.cost))
            found.append((plan.submission.submission_id, plan.cost))
        return found


def plan_submit(settings: Settings, request: Request) -> PlannedSubmit:
    check_request(settings, request)
    cluster, cloud = open_cluster(settings, request), open_modal(settings)
    site: Site = cloud or cluster or ThisMachine(Path(settings["runs_dir"]), request.dry_run)
    settings, grid, prepared = prepare_all(site.settings_of_request(settings), request, site)
    return PlannedSubmit(make_plans(prepared, settings, request, site), settings, request, grid, cluster, cloud)


def open_cluster(settings: Settings, request: Request) -> "Cluster | None":
    """The cluster that is to run it; None: this machine does."""
    if settings["address"] is None:
        given = [f"--{name.replace('_', '-')}" for name in OF_A_CLUSTER if settings.source(name).startswith("--")]
        given += ["--install-packages"] * request.install_packages + ["--insecure"] * request.insecure
        if given:
            raise UsageError(f"{given[0]} is of a cluster, and --address names none")
        return None
    if settings["on"] != "ray":
        raise UsageError(f"{settings.source('address')}: a cluster is Ray's; use --on ray, not {settings['on']}")
    from orchestrator.cluster.site import Cluster

    return Cluster(settings, Path(settings["runs_dir"]), request.insecure, request.install_packages)


def open_modal(settings: Settings) -> "ModalSite | None":
    if settings["on"] != MODAL:
        given = [f"--{name.replace('_', '-')}" for name in OF_MODAL if settings.source(name).startswith("--")]
        if given:
            raise UsageError(f"{given[0]} is of Modal; add --on {MODAL}")
        return None
    from orchestrator.cloud.site import ModalSite

    return ModalSite(settings, Path(settings["runs_dir"]))


def prepare_all(settings: Settings, request: Request, site: Site) -> tuple[Settings, Grid | None, Sequence[Prepared]]:
    """Everything that is asked for, and the settings as they follow from it."""
    found: Recipe | Grid | None = None
    if request.grid is not None:
        found, settings = use_grid_file(request.grid, settings, request.overrides)
    elif request.script is None:
        found = find(settings["recipe"])
    settings = site.settings_of_plan(found, settings)
    grid = found if isinstance(found, Grid) else None
    if grid is not None:
        settings = settings_of_grid(grid, settings, request.bundle)
    settings = settings_of_policy(found, settings, request.overrides, site.target)
    if found is not None:
        return settings, grid, prepare(settings, found, request.overrides, request.bundle, site)
    assert request.script is not None
    return settings, None, [prepare_script(settings, request.script, request.env, request.artifact, site)]


def make_plans(prepared: Sequence[Prepared], settings: Settings, request: Request, site: Site) -> tuple[Plan, ...]:
    """What would run, and what is there already."""
    runs_dir = Path(settings["runs_dir"])
    there, asked = site.attempts([one.submission for one in prepared]), Asked(runs_dir)
    edited = request.bundle is not None
    plans, rehearsed = list[Plan](), Rehearsed(runs_dir)
    for one in prepared:
        check_folder(runs_dir, one.submission)
        attempts = {run.run_id: there[run.run_id] for run in one.submission.runs}
        others = find_other_seeds(runs_dir, one.submission, spec_there(runs_dir, one.submission), asked)
        plan = make_plan(one, attempts, settings, request.retry_failed, edited, others)
        config = None if edited else one.config
        plans.append(with_rehearsal(plan, config, rehearsed, request.rehearsal, beside_seconds(settings)))
    return tuple(plans)


def with_rehearsal(plan: Plan, config: Config | None, rehearsed: Rehearsed, wanted: bool, beside: float = 0.0) -> Plan:
    """The plan with what goes first. Of several variants of the same code the first one is rehearsed. `beside`: seconds
    that are paid for beyond an attempt's last deadline."""
    submission = plan.submission
    if plan.cost.free or not submission.target.gpus:  # nothing to ask: it takes a look at all text of all variants
        return plan
    known = rehearsed.has(submission) or any(planned.done for planned in plan.runs)
    return replace(
        plan, rehearsal=plan_rehearsal(submission, config, plan.cost, wanted=wanted, known=known, beside=beside)
    )
