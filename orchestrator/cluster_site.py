"""A cluster as a place to run on: its survey gives the target and the data, its head what is there already."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from golf_core.config import Config
from golf_core.hardware import DTYPES
from orchestrator.attempts import Attempt
from orchestrator.backends.job_server import JobServer
from orchestrator.cluster_address import read_address
from orchestrator.cluster_options import ClusterOptions
from orchestrator.data_check import DataCheck
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.node_data import EMBEDDED_PATH
from orchestrator.preflight import Check
from orchestrator.remote import Head, checked
from orchestrator.settings import DEFAULT, Settings
from orchestrator.spec import OWN_DTYPE, Data, Submission, Target
from orchestrator.survey import NodeFacts, Survey
from orchestrator.transfer import Seen, check_made_here

SURVEY = "orchestrator.backends.ray_survey"
SURVEY_SECONDS, DATA_SECONDS = 180.0, 1200.0
CPU_DTYPE = "fp32"  # of a target whose processor nobody here knows: the same from wherever it is submitted


class EmbeddedThere:
    """The embedded corpus: its identity is found here, and every node encodes its own."""

    def __init__(self, vocab: int | None) -> None:
        self.here = DataCheck(None, None, vocab)

    def result(self) -> Data:
        return dataclasses.replace(self.here.result(), path=EMBEDDED_PATH, tokenizer_path=EMBEDDED_PATH, stamp=None)

    def close(self) -> None:
        self.here.close()


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

    def __init__(self, settings: Settings, runs_dir: Path, insecure: bool, packages: Sequence[str] = ()) -> None:
        address = read_address(settings["address"], os.environ, insecure, settings.source("address"))
        if address.warning:
            print(f"warning: {address.warning}", file=sys.stderr)
        self.runs_dir = runs_dir
        self.server = JobServer(address)
        self.options = ClusterOptions(
            state_dir=settings["state_dir"],
            node_dir=settings["node_dir"],
            storage=settings["storage"],
            max_gpus=settings["max_gpus"],
        )
        self.head = Head(self.server, self.options.state_dir, packages)
        self.seen: Seen | None = None
        self.survey = self._survey([], SURVEY_SECONDS)

    def _survey(self, more: list[str], seconds: float) -> Survey:
        command = ["-m", SURVEY, "--node-dir", self.options.node_dir, *more]
        answer = checked(self.head.run(command, seconds))
        try:
            return Survey.from_dict(json.loads(answer.data))
        except ValueError as error:
            raise BackendFailure(f"the head told no survey: {error}") from None

    def settings(self, settings: Settings) -> Settings:
        """With what follows from the GPUs that are asked for: those that are declared and not there are simulated."""
        count = gpus_asked(settings)[1]
        device = "cuda" if count and not self._simulated() else "cpu"
        if settings.source("device") != DEFAULT and settings["device"] != device:
            why = "simulated: declared to Ray, and not there" if count else "not asked for: --gpus MODEL:COUNT"
            raise UsageError(f"device={settings['device']}: the cluster's GPUs are {why}")
        return settings.for_device(device, f"--gpus, on {self.server.url}")

    def _simulated(self) -> bool:
        return all(node.simulated for node in self.survey.takers() if node.answered)

    def target(self, settings: Settings, config: Config | None) -> Target:
        model, count = gpus_asked(settings)
        pieces = 0 if config is None else config.train.micro_batches
        cuda = settings["device"] == "cuda"
        processes = settings["processes"]
        if processes is None:
            processes = count if cuda and settings["launcher"] != "python" else 1
        if pieces and pieces % processes:
            good = ", ".join(str(n) for n in range(1, pieces + 1) if pieces % n == 0)
            raise UsageError(f"processes={processes} does not divide train.micro_batches={pieces}; it may be {good}")
        dtype = OWN_DTYPE if config is None else settings["dtype"] or ("bf16" if cuda else CPU_DTYPE)
        if config is not None and dtype not in DTYPES:
            raise UsageError(f"dtype={dtype!r} is not known; there are {', '.join(DTYPES)}")
        return Target(
            device=settings["device"],
            gpu=self._model(model) if cuda else model if count else None,
            gpus=count,
            processes=processes,
            threads=settings["threads"],
            dtype=dtype,
            launcher=settings["launcher"],
        )

    def _model(self, asked: str | None) -> str:
        """The driver's whole name of the model that was asked for."""
        names = sorted({str(gpu["name"]) for node in self.survey.takers() for gpu in node.gpus})
        fitting = [name for name in names if asked is None or asked in name.split() or asked == name]
        if len(fitting) == 1:
            return fitting[0]
        what = f"{asked} is " + ("ambiguous" if fitting else "not there")
        raise UsageError(f"gpus: {what}; the cluster has {', '.join(names) or 'no GPU that its driver shows'}")

    def check(self, settings: Settings, vocab: int | None) -> Check:
        if settings["data"] is None:
            return EmbeddedThere(vocab)
        more = ["--data", settings["data"]]
        more += ["--tokenizer", settings["tokenizer"]] * (settings["tokenizer"] is not None)
        more += ["--vocab", str(vocab)] * (vocab is not None)
        print(f"the nodes read {settings['data']}", file=sys.stderr, flush=True)
        return DataThere(self._survey(more, DATA_SECONDS).takers())

    def attempts(self, submissions: Sequence[Submission]) -> Mapping[str, Sequence[Attempt]]:
        run_ids = [run.run_id for one in submissions for run in one.runs]
        self.seen = self.head.look(run_ids=run_ids)
        check_made_here(self.runs_dir, run_ids, self.seen.origin)
        return self.seen.of_runs(run_ids)


def gpus_asked(settings: Settings) -> tuple[str | None, int]:
    """Model and count of --gpus; (None, 0) for none."""
    text = str(settings["gpus"] or "0")
    if text == "0":
        return None, 0
    model, _, count = text.partition(":")
    if not model or not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 64:
        raise UsageError(f"{settings.source('gpus')}={text!r}: write MODEL:COUNT, as in H100:8 or any:1, or 0")
    return (None if model == "any" else model), int(count)
