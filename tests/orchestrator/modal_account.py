"""Submits to the loopback control plane: one account for all tests of a process, with data on its volume, and laptops
that drive the toy there, as processes of their own, which a test may kill.

`python modal_account.py RUNS_DIR ORDER` drives the submission of the order, as `submit --on modal` does.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, replace
from pathlib import Path

from golf_core.rundir import read_json, read_jsonl
from orchestrator.attempts import ATTEMPTS, NODE, inspect_all, now_utc
from orchestrator.case import lease_of_submission
from orchestrator.cloud.cancels import with_cancel
from orchestrator.cloud.chains import Following
from orchestrator.cloud.data import make_checked
from orchestrator.cloud.options import APP, CLAIMS, DATA_VOLUME, RUNS_VOLUME, AppOptions
from orchestrator.cloud.order import cancels_of
from orchestrator.cloud.starts import path_of
from orchestrator.controller import Controller
from orchestrator.drive import register
from orchestrator.ledger.store import Ledger
from orchestrator.spec import Data, Limits, Submission, attempt_id
from tests.orchestrator.toy import MARK, ROOT, TOY, limits, toy_text
from tests.orchestrator.toy import submission as toy_submission
from tests.processes import until

DATASET = "/data/datasets/embedded"
H100 = "NVIDIA H100 80GB HBM3"
LOOK_SECONDS = 0.3


class Account:
    """A plane, and on its volume the data of the tests."""

    def __init__(self, plane, corpus, deploy=True):
        from tests.modal_plane.client import Client

        self.plane, self.mark = plane, uuid.uuid4().hex
        with Client(plane) as client:
            for name in (DATA_VOLUME, RUNS_VOLUME):
                client.do(f"modal.Volume.from_name({name!r}, create_if_missing=True, version=2).hydrate()")
        folder = plane.volume(DATA_VOLUME) / DATASET.removeprefix("/data/")
        shutil.copytree(corpus["data_path"], folder)
        checked = make_checked(folder)
        self.data = Data(
            path=DATASET,
            sha256=checked.data_sha256,
            tokenizer_path=f"{DATASET}/{checked.tokenizer_path}",
            tokenizer_sha256=checked.tokenizer_sha256,
        )
        words = [sys.executable, "-m", "modal", "deploy", "jobs/train.py"]
        if deploy:
            subprocess.run(words, cwd=ROOT, env=self.environment(), check=True, capture_output=True)

    def submission(self, text=TOY, seeds=(1,), gpus=8):
        """Simulated: GPUs are declared, and the toy trains without. Each is another one, as the account is for all."""
        asked = toy_submission(f"{text}\n# {uuid.uuid4().hex}\n", seeds)
        return replace(asked, data=self.data, target=replace(asked.target, gpus=gpus, gpu=H100 if gpus else None))

    def environment(self):
        own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: self.mark}
        return self.plane.environment() | own

    def mended(self):
        """As before any test: no faults, no call that runs."""
        self.plane.faults.rules.clear()
        self.quiet()
        return self

    # Looking

    def calls(self):
        """Of `train`, by anybody."""
        return [one for one in self.plane.calls() if one.app.startswith(APP) and one.function == "train"]

    def call_of(self, attempt):
        """The id of the call whose container has laid an attempt down."""
        node = self.kept(attempt) / NODE
        return read_json(node)["call"] if node.exists() else None

    def kept(self, attempt):
        """The folder of an attempt on the volume."""
        return self.plane.volume(RUNS_VOLUME) / ATTEMPTS / attempt

    def starts(self, run_id):
        """A line for each container that did any work."""
        return read_jsonl(path_of(self.plane.volume(RUNS_VOLUME), run_id))

    def reaches(self, attempt, text, file="phases.jsonl"):
        """Whether a file of an attempt, on the volume, holds `text`."""
        path = self.kept(attempt) / file
        return path.exists() and text in path.read_text()

    def claims(self):
        return self.plane.entries(CLAIMS)

    def quiet(self):
        until(lambda: not any(one.alive for one in self.plane.containers()), "the end of the containers")

    # Upsetting

    def held(self, *places, steps=5):
        """The toy, that waits at these places until `let_go`: a file on the data volume, which shows at once."""
        self.go = f"go-{uuid.uuid4().hex[:8]}"
        return toy_text({place: f"wait /data/{self.go}" for place in places}, steps)

    def let_go(self):
        (self.plane.volume(DATA_VOLUME) / self.go).touch()

    def forget(self):
        """Every claim, as after seven days."""
        for key in self.claims():
            self.plane.expire_entry(CLAIMS, key)


class Laptop:
    """A runs folder, and the processes that drive a submission from it."""

    def __init__(self, account, folder, asked, **order):
        """`order`: lanes and canary of what containers begin; limits; a point where the process kills itself."""
        self.account, self.asked, self.folder = account, asked, folder
        self.runs_dir, self.processes, self.variables = folder / "runs", [], {}
        folder.mkdir(parents=True, exist_ok=True)
        with Ledger.create(self.runs_dir) as ledger:
            register(asked, self.runs_dir, ledger)
        order["limits"] = asdict(order.get("limits", limits()))
        self.order = order | {"spec": asked.to_dict("now"), "bundle": asked.bundle}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self.processes:
            one.kill()
            one.wait()

    def start(self, **point):
        order = self.folder / f"order-{len(self.processes)}.json"
        order.write_text(json.dumps(self.order | point))
        with order.with_suffix(".log").open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, __file__, str(self.runs_dir), str(order)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=self.account.environment() | self.variables,
                )
            )
        return self.processes[-1]

    def finish(self):
        """verb and reason with which each seed ended, by seed."""
        self.processes[-1].wait(timeout=240)
        said = self.said().splitlines()
        assert self.processes[-1].returncode == 0, "\n".join(said)
        return {int(seed): end for seed, end in json.loads(said[-1]).items()}

    def run(self, **point):
        self.start(**point)
        return self.finish()

    def killed(self):
        """How the process ended that was to kill itself."""
        return self.processes[-1].wait(timeout=120)

    def said(self):
        return (self.folder / f"order-{len(self.processes) - 1}.log").read_text()

    def name(self, seed=1, number=1):
        return attempt_id(self.asked.run_id(seed), number)

    def attempt(self, seed=1, number=1):
        """Its folder here."""
        return self.runs_dir / ATTEMPTS / self.name(seed, number)

    def states(self):
        """seed -> (state, class) of each attempt."""
        found = {run.seed: inspect_all(self.runs_dir, run.run_id) for run in self.asked.runs}
        return {seed: [(one.state, one.cls) for one in attempts] for seed, attempts in found.items()}


def workers(account, asked):
    """For each run the calls whose containers did any work for it."""
    return {run.seed: [one["call"] for one in account.starts(run.run_id)] for run in asked.runs}


def training(account, laptop, seed=1, number=1, step="step 2"):
    """The call of an attempt, once that trains, and the volume tells."""
    name = laptop.name(seed, number)
    until(lambda: account.reaches(name, step, "log.txt"), f"{step} of {name}")
    return account.call_of(name)


def drive(runs_dir, order):
    from orchestrator.backends import modal_backend, modal_follow

    modal_follow.LOOK_SECONDS, modal_follow.TROUBLE_SECONDS = LOOK_SECONDS, 1.0
    asked, given = Submission.from_dict(order["spec"], order["bundle"]), Limits(**order["limits"])
    runs = tuple(asked.run_json(run, 1, given) for run in asked.runs)
    following = Following(runs, asked.policy if order.get("canary") else None, order.get("lanes", len(runs)))
    cloud = modal_backend.Cloud()
    if order.get("cancel"):  # from a machine that knows nothing but the submission's id
        cloud.write(cancels_of(asked.submission_id), with_cancel("", now_utc(), None))
        return {}
    if "kill" in order:
        kill_at(modal_backend, cloud, order["kill"])

    def backend():
        return modal_backend.ModalBackend(
            runs_dir,
            cloud,
            print,
            options_of=lambda job: AppOptions() if job.gpus else AppOptions(gpu=None),
            following={asked.submission_id: following},
            restarts=order.get("restarts", 2),
        )

    with Ledger.create(runs_dir) as ledger:
        while (lease := ledger.acquire(lease_of_submission(asked.submission_id))) is None:
            time.sleep(0.1)
        slots = order.get("slots", len(asked.runs))
        controller = Controller(asked, runs_dir, ledger, lease, backend, given, slots, backend_name="modal")
        cases = controller.drive(lambda cases: None)
        controller.close()
        return {case.run.seed: [case.end.verb, case.end.reason] for case in cases}


def kill_at(modal_backend, cloud, where):
    """This process kills itself right after it has called, or right before it writes down which call it was."""
    call, claim = cloud.call, cloud.claim

    def die(*_):
        os.kill(os.getpid(), 9)

    def called(order):
        found = call(order)
        die(found)

    if where == "called":
        cloud.call = called
    elif where == "claimed":
        cloud.claim = lambda key, value: die(claim(key, value))


if __name__ == "__main__":
    print(json.dumps(drive(Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text()))))
