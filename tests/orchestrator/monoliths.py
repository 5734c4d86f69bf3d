"""What the tests of script runs share: the monolith in each dialect, told to misbehave; attempts and submits of it."""

import dataclasses
import json
import re
from pathlib import Path

from golf_core.rundir import BUNDLE, write_json
from orchestrator.attempts import create
from orchestrator.script import Script
from orchestrator.spec import OWN_DTYPE, SUBMISSION_DIGITS, Data
from orchestrator.worker.attempt import folder_key, run_attempt
from orchestrator.worker.watch import VARIABLE
from tests.orchestrator.toy import Bench, limits, submission
from tests.processes import command_line, until

MONOLITH = (Path(__file__).parent / "monolith.py").read_text(encoding="utf-8")
DIALECTS = ("old", "new", "pairs", "stamped")


def monolith(dialect="old", behaviour=None):
    text = re.sub(r'^DIALECT = "old"', f'DIALECT = "{dialect}"', MONOLITH, count=1, flags=re.MULTILINE)
    return text.replace("BEHAVIOUR = {}", f"BEHAVIOUR = {behaviour or {}!r}", 1)


def script_submission(corpus, text=MONOLITH, env=(), artifact=None, **kwargs):
    """A submission of a script on the embedded corpus, with one process and no torchrun."""
    data = Data(
        path=corpus["data_path"], sha256="d" * 64, tokenizer_path=corpus["tokenizer_path"], tokenizer_sha256="e" * 64
    )
    asked = submission(text, **kwargs)
    target = dataclasses.replace(asked.target, dtype=OWN_DTYPE)
    script = Script(name="train_gpt.py", env=tuple(env), artifact=artifact)
    return dataclasses.replace(asked, recipe=script.name, script=script, data=data, target=target, config={})


def script_folder(runs_dir, asked, given_limits=None, number=1, which=0):
    """An attempt of it, as the controller lays it down."""
    runs_dir.mkdir(exist_ok=True)
    return create(runs_dir, asked.run_json(asked.runs[which], number, given_limits or limits()), asked.bundle)


def sealed_runs(runs_dir, asked, **changed):
    """The submission's folder with every seed run and sealed, as a submit leaves it before the tables."""
    real = {"train_s": asked.policy.train_seconds, "evaluate_s": asked.policy.evaluate_seconds}
    for which in range(len(asked.runs)):
        result = run_attempt(script_folder(runs_dir, asked, limits(**(real | changed)), which=which))
        assert result["outcome"] == "completed", result
    folder = runs_dir / asked.submission_id[:SUBMISSION_DIGITS]
    folder.mkdir()
    (folder / BUNDLE).write_bytes(asked.bundle.encode())
    write_json(folder / "spec.json", asked.to_dict("2026-11-22T10:00:00.000Z"))
    return folder


def carriers_of(folder):
    """Processes that an attempt started: a script's environment carries no mark of a test."""
    entry = f"{VARIABLE}={folder_key(folder)}:".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if any(one.startswith(entry) for one in environ.read_bytes().split(b"\0")):
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


class ScriptBench(Bench):
    """A bench whose submits run its program as a script."""

    def program(self):
        return ["--script", str(self.bundle)]

    def result(self, seed, number=1):
        return json.loads((self.attempt(seed, number) / "result.json").read_text())

    def nobody_is_left(self, patience=10.0):
        super().nobody_is_left(patience)
        until(lambda: not self.scripts(), f"left: {[command_line(pid) for pid in self.scripts()]}", patience)

    def scripts(self):
        return [pid for folder in self.attempts() for pid in carriers_of(folder)]
