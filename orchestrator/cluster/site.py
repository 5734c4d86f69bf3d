"""A cluster as a place to run on: its survey gives the target and the data, its head what is there already."""

import dataclasses
import json
import os
import sys
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from golf_core.config import Config
from golf_core.recipes import Grid, Recipe
from orchestrator.attempts import Attempt
from orchestrator.backends.job_server import JobServer
from orchestrator.checkout import ROOT
from orchestrator.cluster.address import read_address
from orchestrator.cluster.node_findings import NEEDED, refuse_unfit
from orchestrator.cluster.node_look import version
from orchestrator.cluster.options import ClusterOptions
from orchestrator.cluster.remote import Head, checked
from orchestrator.cluster.storage import check_storage
from orchestrator.cluster.survey import NodeFacts, Survey
from orchestrator.cluster.transfer import Seen, check_made_here
from orchestrator.data_check import EmbeddedThere
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.hardware.request import Offer, choose, offers_of, read_request
from orchestrator.lock import pinned
from orchestrator.plan import Line
from orchestrator.settings import DEFAULT, Settings
from orchestrator.site import Check, checked_target
from orchestrator.spec import Data, Submission, Target

SURVEY = "orchestrator.backends.ray_survey"
SURVEY_SECONDS, DATA_SECONDS = 180.0, 1200.0
INSTALL_SECONDS = 600.0  # Ray's own limit for a node
CPU_DTYPE = "fp32"  # of a target whose processor nobody here knows: the same from wherever it is submitted


class DataThere:
    """A folder on the nodes: what each of them found in it must be one and the same."""

    def __init__(self, nodes: Sequence[NodeFacts]) -> None:
        self.nodes = nodes

    def result(self) -> Data:
        found: dict[tuple[str, str], Data] = {}
        for node in self.nodes:
            if node.data_error or node.data is None:
                raise UsageError(f"data on node {node.short()}: {node.data_error or node.error or 'nothing was told'}")
            found.setdefault((node.data.sha256, node.data.tokenizer_sha256), node.data)
        if len(found) != 1:
            told = "; ".join(f"{node.short()}: {node.data.describe()}" for node in self.nodes if node.data is not None)
            raise UsageError(f"the nodes hold different data under one name ({told}); make them equal")
        return dataclasses.replace(next(iter(found.values())), stamp=None)

    def close(self) -> None:
        pass


class Cluster:
    """Asked once what it has."""

    def __init__(self, settings: Settings, runs_dir: Path, insecure: bool, install: bool = False) -> None:
        address = read_address(settings["address"], os.environ, insecure, settings.source("address"))
        if address.warning:
            print(f"warning: {address.warning}", file=sys.stderr)
        if settings["storage"] is not None:
            check_storage(settings["storage"])
        self.runs_dir = runs_dir
        self.server = JobServer(address)
        self.options = ClusterOptions(
            state_dir=settings["state_dir"],
            node_dir=settings["node_dir"],
            storage=settings["storage"],
            max_gpus=settings["max_gpus"],
        )
        packages = pinned(ROOT, (*NEEDED, "nvidia-ml-py", "fsspec")) if install else ()
        self.head = Head(self.server, self.options.state_dir, packages)
        self.seen: Seen | None = None
        self.offer: Offer | None = None  # what a seed gets, once that was asked for
        self.survey = self._survey([], SURVEY_SECONDS)
        refuse_unfit(self.survey, ROOT, self.options.storage)
        self._tell_silent()

    def _tell_silent(self) -> None:
        """What a node has that did not answer is not known; where none did, nothing can be planned."""
        silent = [node for node in self.survey.takers() if not node.answered]
        if silent and len(silent) == len(self.survey.takers()):
            told = "; ".join(f"{node.short()}: {node.error}" for node in silent)
            raise BackendFailure(
                f"no node of {self.server.url} tells what it has ({told}); look with `doctor --on ray`"
            )
        for node in silent:
            print(f"warning: node {node.short()}: {node.error}; it is left out of the plan", file=sys.stderr)

    def _survey(self, more: list[str], seconds: float) -> Survey:
        if self.head.packages:  # the head installs them, and then every node
            more, seconds = [*more, "--seconds", str(INSTALL_SECONDS)], seconds + 2 * INSTALL_SECONDS
        command = ["-m", SURVEY, "--node-dir", self.options.node_dir, *more]
        answer = checked(self.head.run(command, seconds))
        try:
            return Survey.from_dict(json.loads(answer.data))
        except ValueError as error:
            raise BackendFailure(f"the head told no survey: {error}") from None

    def settings_of_request(self, settings: Settings) -> Settings:
        """With what follows from the GPUs that are asked for: those that are declared and not there are simulated."""
        request, place = read_request(settings), f"{settings.source('gpus')}={settings['gpus']}"
        given = settings["device"] if settings.source("device") != DEFAULT else None
        if request is None or not request.count:
            if given == "cuda":
                raise UsageError(f"device=cuda: say how many GPUs of {self.server.url} with --gpus MODEL:COUNT")
            return settings.for_device("cpu", f"--gpus, on {self.server.url}")
        self.offer = choose(request, offers_of(self.survey.nodes), place, given)
        return settings.for_device("cuda" if self.offer.real else "cpu", f"--gpus, on {self.server.url}")

    def settings_of_plan(self, found: Recipe | Grid | None, settings: Settings) -> Settings:
        return settings  # what is not there cannot be planned for

    def target(self, settings: Settings, config: Config | None) -> Target:
        request = read_request(settings)
        count = 0 if request is None else request.count
        cuda = settings["device"] == "cuda"
        processes = settings["processes"]
        if processes is None:
            processes = count if cuda and settings["launcher"] != "python" else 1
        if cuda and processes != count:
            raise UsageError(f"processes={processes} and {count} GPUs: every process has one of its own")
        return checked_target(
            settings,
            config,
            gpu=self.offer.model if self.offer is not None else None,
            gpus=count,
            processes=processes,
            dtype="bf16" if cuda else CPU_DTYPE,
        )

    def check(self, settings: Settings, vocab: int | None) -> Check:
        if settings["data"] is None:
            return EmbeddedThere(settings["tokenizer"], vocab)
        more = ["--data", settings["data"]]
        more += ["--tokenizer", settings["tokenizer"]] * (settings["tokenizer"] is not None)
        more += ["--vocab", str(vocab)] * (vocab is not None)
        print(f"the nodes read {settings['data']}", file=sys.stderr, flush=True)
        return DataThere(self._survey(more, DATA_SECONDS).takers())

    def warm_up(self, settings: Settings) -> None:
        pass

    def attempts(self, submissions: Sequence[Submission]) -> Mapping[str, Sequence[Attempt]]:
        run_ids = [run.run_id for one in submissions for run in one.runs]
        self.seen = self.head.look_at_runs(run_ids)
        check_made_here(self.runs_dir, run_ids, self.seen.origin)
        return self.seen.of_runs(run_ids)

    def rows(self, settings: Settings) -> list[Line]:
        """For the plan."""
        count = len(self.survey.nodes)
        given = Counter(_gives(node) for node in self.survey.nodes)
        nodes = ", ".join(f"{number} with {what}" for what, number in given.items())
        ray = f"Ray {self.survey.ray}, Python {self.survey.python}"
        if (here := version("ray")) is not None and here != self.survey.ray:
            ray += f" (Ray {here} here: only nodes must be alike, the job server is spoken to over HTTP)"
        state = f"{self.options.state_dir} on the head, {self.options.node_dir} on each node"
        return [
            ("cluster", f"{self.server.url}, {ray}; {_nodes(count)}: {nodes}", settings.source("address")),
            ("folders", state, _source(settings, "state_dir", "node_dir")),
        ]

    def to_dict(self) -> dict[str, typing.Any]:
        return {"address": self.server.url, "options": self.options.to_dict(), "survey": self.survey.to_dict()}


def _gives(node: NodeFacts) -> str:
    if not node.answered:
        return "no answer"
    names = sorted({str(gpu["name"]) for gpu in node.gpus})
    if names:
        return f"{len(node.gpus)}x {' and '.join(names)}"
    return f"{node.declared_gpus} GPUs that are declared and not there" if node.declared_gpus else "no GPU"


def _nodes(count: int) -> str:
    return f"{count} node{'s' if count != 1 else ''}"


def _source(settings: Settings, *names: str) -> str:
    given = [f"{name}: {settings.source(name)}" for name in names if settings.source(name) != DEFAULT]
    return ", ".join(given) or DEFAULT
