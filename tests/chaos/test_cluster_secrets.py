"""Fault 16 on a cluster that asks for its token: what is planted on laptop and nodes is found nowhere else."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.orchestrator.test_secrets import ENVIRONMENT, FILES, PLANTED, leaks
from tests.orchestrator.toy import toy_text

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("cluster")]

TOKEN = "planted0" * 8
ON_NODES = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("RAY_")}


def plant(home):
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    (home / ".ray" / "auth_token").write_text(TOKEN)
    (home / ".ray" / "auth_token").chmod(0o644)


class Watch:
    """Looks at the processes of a cluster while it lasts: which secrets they have, what their command lines tell."""

    def __init__(self, cluster):
        self.cluster, self.given, self.told = cluster, set(), []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def _look(self):
        while not self.over.wait(0.2):
            for pid in self.cluster.everything():
                try:
                    environ, line = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))
                except OSError:
                    continue
                self.given |= {
                    name for name, value in (ENVIRONMENT | {"TOKEN": TOKEN}).items() if value.encode() in environ
                }
                self.told += [line] * (PLANTED in line)


def run(cluster, folder, *arguments):
    """A command on the laptop, which has the token by its file and everything else in its environment."""
    environ = {
        name: value for name, value in cluster.environment().items() if name not in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
    }
    line = [sys.executable, "-m", "orchestrator", *map(str, arguments), "--address", cluster.address, "--debug"]
    return subprocess.run(line, cwd=folder, env=environ, capture_output=True, text=True, check=False)


def test_secrets_on_a_cluster_are_found_nowhere(tally, tmp_path, monkeypatch):
    """In no ledger, attempt, mirror, parcel, log of Ray's or ours, job description, command line, message or output, of
    a run that prints its environment and of one that fails; the token's file is tightened."""
    fault = tally("16 secrets on laptop, head and node, with a token cluster")
    for name, value in ON_NODES.items():
        monkeypatch.setenv(name, value)
    bundles = {"good": toy_text({"setup": "environ"}), "bad": toy_text({"setup": "environ", "train2": "crash"})}
    with Cluster(("n1",), token=TOKEN) as cluster:
        laptop = Path(cluster.environment()["HOME"])
        for home in (laptop, cluster.home(), cluster.home("n1")):
            plant(home)
        said, codes = [], []
        with Watch(cluster) as watch:
            for name, text in bundles.items():
                (tmp_path / f"{name}.py").write_text(text)
                asked = ["--bundle", tmp_path / f"{name}.py", "--gpus", "H100:8", "--launcher", "python", "--seeds", 1]
                said.append(run(cluster, tmp_path, "submit", "-y", *asked))
                codes.append(said[-1].returncode)
                said += [
                    run(cluster, tmp_path, "status", "-v"),
                    run(cluster, tmp_path, "logs"),
                    run(cluster, tmp_path, "fetch"),
                ]
            said.append(run(cluster, tmp_path, "doctor"))
        jobs = json.dumps(cluster.ask("/api/jobs/"))
        assert codes == [0, 1] and said[-1].returncode == 0, [one.stderr for one in said]
        assert "SEED=1" in said[2].stdout  # the run did print its environment, and we were shown it
        assert (laptop / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
        planted = {home / name for home in (laptop, cluster.home(), cluster.home("n1")) for name in FILES}
        found = [path for path in leaks(cluster.folder, tmp_path) if path not in planted]
        fault.injected = len(ON_NODES) + 1
        fault.fired = len(watch.given)
        assert found == [] and watch.told == [] and "planted" not in jobs
        assert all("planted" not in one.stdout + one.stderr for one in said)
        fault.survived = fault.fired
