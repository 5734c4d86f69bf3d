"""Controllers to be killed: the test's side of tests/chaos/zygote.py."""

import json
import os
import subprocess
import sys
import uuid

from tests.orchestrator.toy import MARK, ROOT, TOY


class Controllers:
    """A zygote, and the runs folders of its controllers."""

    def __init__(self, folder):
        self.folder, self.mark = folder, uuid.uuid4().hex
        self.data = folder / "data"
        self.data.mkdir()
        for name in ("toy_train_000000.bin", "toy_val_000000.bin"):
            (self.data / name).write_bytes(b"shard")
        env = {name: value for name, value in os.environ.items() if not name.startswith("GOLF_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env | {"PYTHONPATH": str(ROOT), MARK: self.mark},
        )

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def ask(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, runs_dir, backend="fake", seeds=(1, 2), slots=2, text=TOY, **point):
        """The process id of a controller on its way."""
        asked = {"runs_dir": str(runs_dir), "data": str(self.data), "said": str(self.folder / "said.txt")}
        return self.ask(do="fork", backend=backend, seeds=list(seeds), slots=slots, text=text, **asked, **point)["pid"]

    def wait(self, pid):
        """How it ended: its exit code, minus the signal's number, or None where it was stopped."""
        return self.ask(do="wait", pid=pid).get("code")

    def run(self, runs_dir, **order):
        return self.wait(self.start(runs_dir, **order))

    def said(self):
        path = self.folder / "said.txt"
        return path.read_text() if path.exists() else ""
