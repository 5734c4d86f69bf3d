"""Runs on a real cluster: the toy with real data, and a controller as a process of its own, which tests may kill.

`python cluster_runs.py RUNS_DIR ADDRESS ORDER` drives the submission of the order, as the head's controller does.
"""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from golf_core.rundir import RUN, read_json, write_json
from orchestrator.attempts import NODE, inspect_all
from orchestrator.backends.ray_cluster import RayClusterBackend
from orchestrator.case import lease_of_submission
from orchestrator.cluster.options import ClusterOptions
from orchestrator.controller import Controller
from orchestrator.ledger.store import Ledger
from orchestrator.spec import Data, Submission
from tests.orchestrator.toy import ROOT, TOY, limits
from tests.orchestrator.toy import submission as toy_submission


def real_data(corpus):
    """Of the embedded corpus, as a check of it tells."""
    where = ["--data", corpus["data_path"], "--tokenizer", corpus["tokenizer_path"]]
    command = [sys.executable, "-m", "golf_core.data.identity", *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    return Data(
        path=corpus["data_path"],
        sha256=said["data_sha256"],
        tokenizer_path=corpus["tokenizer_path"],
        tokenizer_sha256=said["tokenizer_sha256"],
    )


def submission(data, text=TOY, seeds=(1, 2, 3), gpus=8, gpu="NVIDIA H100 80GB HBM3"):
    """The toy on declared GPUs."""
    asked = toy_submission(text, seeds)
    return replace(asked, data=data, target=replace(asked.target, gpus=gpus, gpu=gpu if gpus else None))


class Runs:
    """A submission in a runs folder on the head, and the controllers that drive it."""

    def __init__(self, cluster, asked, **options):
        self.cluster, self.asked = cluster, asked
        self.folder = cluster.folder / f"runs-{time.monotonic_ns()}"
        self.runs_dir = self.folder / "golf"
        self.options = {"state_dir": str(self.runs_dir), "node_dir": f"{self.folder}/node"} | options
        self.controllers = []

    def __enter__(self):
        self.folder.mkdir()
        order = {"spec": self.asked.to_dict("now"), "bundle": self.asked.bundle, "options": self.options}
        (self.folder / "order.json").write_text(json.dumps(order))
        return self

    def __exit__(self, *_):
        for one in self.controllers:
            one.kill()
            one.communicate()

    def start(self):
        arguments = [__file__, str(self.runs_dir), self.cluster.gcs_address, str(self.folder / "order.json")]
        with (self.folder / f"controller-{len(self.controllers)}.log").open("wb") as log:
            self.controllers.append(
                subprocess.Popen(
                    [sys.executable, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=self.cluster.environment(),
                )
            )
        return self.controllers[-1]

    def finish(self, controller=None):
        """The verbs with which its runs ended, by seed."""
        (controller or self.controllers[-1]).wait(timeout=240)
        return json.loads(self.said()[-1]) if self.said() else {}

    def said(self):
        return (self.folder / f"controller-{len(self.controllers) - 1}.log").read_text().splitlines()

    def attempt(self, seed, number=1):
        """The head's folder of an attempt, where it is there."""
        name = f"{self.asked.run_id(seed)[:16]}-a{number}"
        folder = self.runs_dir / "attempts" / name
        return folder if (folder / RUN).exists() else None

    def reaches(self, seed, text, number=1, file="phases.jsonl"):
        """Whether the head's mirror of an attempt holds `text`."""
        folder = self.attempt(seed, number)
        return folder is not None and (folder / file).exists() and text in (folder / file).read_text()

    def host(self, seed, number=1):
        return read_json(self.attempt(seed, number) / NODE)["host"]

    def on_node(self, seed, number=1):
        """The folder of an attempt on the node that it was sent to."""
        handle = read_json(self.attempt(seed, number) / NODE)
        return Path(handle["node_dir"]) / handle["home"] / "attempts" / handle["attempt_id"]

    def states(self):
        """seed -> (state, class) of each attempt."""
        found = {run.seed: inspect_all(self.runs_dir, run.run_id) for run in self.asked.runs}
        return {seed: [(one.state, one.cls) for one in attempts] for seed, attempts in found.items()}

    def events(self, kind):
        with Ledger.open(self.runs_dir) as ledger:
            return ledger.events(kind=kind)


def trainings(folder):
    """How often training began in an attempt, by its sealed phases."""
    rows = [json.loads(line) for line in (folder / "phases.jsonl").read_text().splitlines()]
    return sum(row["phase"] == "train" and row["edge"] == "begin" for row in rows)


def drive(runs_dir, address, order):
    asked = Submission.from_dict(order["spec"], order["bundle"])
    options = ClusterOptions.from_dict(order["options"])
    with Ledger.create(runs_dir) as ledger:
        while (lease := ledger.acquire(lease_of_submission(asked.submission_id))) is None:
            time.sleep(0.1)
        controller = Controller(
            asked,
            runs_dir,
            ledger,
            lease,
            lambda: RayClusterBackend(runs_dir, options, address),
            limits(),
            len(asked.runs),
            backend_name="ray",
        )
        cases = controller.drive(lambda cases: None)
        return {case.run.seed: [case.end.verb, case.end.reason] for case in cases}


def laid_down_for_cluster(folder, data):
    """An attempt folder whose run.json names data that is there."""
    write_json(folder / RUN, read_json(folder / RUN) | {"data": data.to_dict()})


if __name__ == "__main__":
    print(json.dumps(drive(Path(sys.argv[1]), sys.argv[2], json.loads(Path(sys.argv[3]).read_text()))))
