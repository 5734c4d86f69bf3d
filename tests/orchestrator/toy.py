"""What the tests of the orchestrator share: the toy bundle told to misbehave, real submits, who was left behind."""

import json
import os
import re
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from golf_core.policy import load_policy
from orchestrator.attempts import create
from orchestrator.money.cost import Cost, Seconds
from orchestrator.money.prices import Price
from orchestrator.spec import Data, Limits, Submission, Target
from tests.processes import PATIENCE, carrying, command_line, until

ROOT = Path(__file__).resolve().parents[2]
TOY = (Path(__file__).parent / "toy_bundle.py").read_text(encoding="utf-8")
TOY_BUILD = str(Path(__file__).parent / "toy_build.py")
MARK = "GOLF_TEST_MARK"
COST = Cost(
    price=Price(36.0, "a test"),
    seconds=Seconds(train=30.0, evaluate=30.0, how="a test"),
    attempt_s=100.0,
    attempts=2,
    whole=1,
)


def toy_text(behaviour=None, steps=5, pause=0.0):
    """The toy, with `behaviour` (place -> what happens there) written into it."""
    text = TOY.replace("BEHAVIOUR = {}", f"BEHAVIOUR = {behaviour or {}!r}", 1)
    return re.sub(r"STEPS, PAUSE = .*", f"STEPS, PAUSE = {steps}, {pause}", text, count=1)


@dataclass
class Bench:
    """A runs folder, a bundle, and submits of it. Every process that they start carries the bench's mark."""

    patience = PATIENCE  # seconds for a command, the same for all benches of a kind
    folder: Path
    corpus: dict
    text: str = TOY
    backend: str = "process"
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    extra_env: dict = field(default_factory=dict)
    tables: bool = False  # whether submits end with collect and pack

    def __post_init__(self):
        self.runs_dir = self.folder / "runs"
        self.bundle = self.folder / "toy.py"
        self.bundle.write_text(self.text, encoding="utf-8")

    def environment(self):
        env = {name: value for name, value in os.environ.items() if not name.startswith("GOLF_")}
        return env | {"PYTHONPATH": str(ROOT), MARK: self.mark, "COLUMNS": "200"} | self.extra_env

    def program(self):
        """The flags that name what runs."""
        return ["--bundle", str(self.bundle)]

    def command(self, verb, *arguments):
        """What is typed."""
        given = ["--runs-dir", str(self.runs_dir)]
        if verb == "submit":
            if "--launcher" not in arguments:
                given += ["--launcher", "python"]
            given += [*self.program(), "--on", self.backend]
            given += ["--data", self.corpus["data_path"], "--tokenizer", self.corpus["tokenizer_path"]]
        return [sys.executable, *self.starter(), verb, *given, *map(str, arguments)]

    def starter(self):
        return ["-m", "orchestrator"] if self.tables else [str(Path(__file__).parent / "untabled.py")]

    def start(self, *arguments, verb="submit"):
        return subprocess.Popen(
            self.command(verb, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(),
        )

    def run(self, *arguments, verb="submit"):
        process = self.start(*arguments, verb=verb)
        out, err = process.communicate(timeout=self.patience)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def attempts(self):
        parent = self.runs_dir / "attempts"
        return sorted(path for path in parent.glob("*-a*") if not path.name.startswith(".")) if parent.exists() else []

    def attempt(self, seed, number=1):
        """The folder of an attempt of a seed, or None."""
        for folder in self.attempts():
            if folder.name.endswith(f"-a{number}") and json.loads((folder / "run.json").read_text())["seed"] == seed:
                return folder
        return None

    def reaches(self, seed, text, number=1, file="phases.jsonl"):
        """Wait until a file of an attempt holds `text`."""

        def look():
            folder = self.attempt(seed, number)
            return folder is not None and (folder / file).exists() and text in (folder / file).read_text()

        until(look, f"{file} of seed {seed}, attempt {number} holds {text!r}")
        return self.attempt(seed, number)

    def nobody_is_left(self, patience=10.0):
        until(lambda: not carrying(MARK, self.mark), f"left behind: {self.left()}", patience)

    def left(self):
        return [command_line(pid) for pid in carrying(MARK, self.mark)]


def stop(process):
    """End a process that a test started, and read to the end what it says, where the test has not."""
    if process.poll() is None:
        process.kill()
    if process.stdout is None or not process.stdout.closed:
        process.communicate()


def submission(text=TOY, seeds=(1,), processes=1, launcher="python", data="/nowhere"):
    target = Target(device="cpu", processes=processes, threads=1, dtype="fp32", launcher=launcher)
    return Submission(
        recipe="toy",
        overrides=(),
        seeds=tuple(seeds),
        target=target,
        policy=load_policy("demo"),
        config={"name": "toy"},
        data=Data(path=str(data), sha256="d" * 64, tokenizer_path="/nowhere/t.model", tokenizer_sha256="e" * 64),
        bundle=text,
    )


def limits(**changed):
    values = {"train_s": 60.0, "evaluate_s": 60.0, "kill_after_s": 5.0, "startup_s": 30.0, "silence_s": 30.0}
    return Limits(**(values | changed))


def attempt_folder(tmp_path, text=TOY, number=1, given_limits=None, **kwargs):
    """An attempt folder as the controller lays it down, with shards that the toy does not open."""
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    for name in ("toy_train_000000.bin", "toy_val_000000.bin"):
        (data / name).write_bytes(b"shard")
    asked = submission(text, data=data, **kwargs)
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir(exist_ok=True)
    return create(runs_dir, asked.run_json(asked.runs[0], number, given_limits or limits()), asked.bundle)
