"""The worker: runs the stages of one attempt where the processors are, and seals them. For every backend.

Two stages, each a process tree of its own: `train`, then `evaluate` from the artifact alone, shown only
the validation shards (isolation is not claimed: run.json and the links tell where the rest lies). Where the train
stage is sealed already, only evaluation runs, and what an earlier evaluation left behind is cut off first. A script,
somebody's own program, has one stage and one seal. The worker never reads a score.
"""

import hashlib
import os
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time
import typing
from collections.abc import Mapping
from pathlib import Path

from golf_core.rundir import (
    APPENDED,
    ARTIFACT,
    BUNDLE,
    ENV,
    HARDWARE,
    HARDWARE_AGAIN,
    LOG,
    METRICS,
    PHASES,
    RESULT,
    RUN,
    SCHEMA_VERSION,
    SCORE_LEDGER,
    SCORES,
    SEAL,
    TRAIN_FILES,
    TRAIN_SEAL,
    RunDirError,
    is_sealed,
    read_json,
    read_jsonl,
    verify_seal,
    write_json,
    write_seal,
)
from orchestrator.attempts import NODE, now_utc
from orchestrator.data_stamp import changed
from orchestrator.environment import bundle_environment, describe_machine, script_environment
from orchestrator.hardware.verify import Eyes, FirstSteps, verify
from orchestrator.proc import Locked, folder_lock
from orchestrator.script import RECIPE, SCRIPT, SCRIPT_STAGE, Script
from orchestrator.spec import Limits
from orchestrator.worker.clocks import Clocks
from orchestrator.worker.script_stage import WORK, Left, lay_out, take_artifact
from orchestrator.worker.short_data import lay_out_short
from orchestrator.worker.stage import STOPPED, TIMED, Ended, Judge, Stop, phase_seconds, run_stage
from orchestrator.worker.watch import VARIABLE, guard, kill_carriers

FINAL_FILES = (*TRAIN_FILES, TRAIN_SEAL, SCORES, SCORE_LEDGER, RESULT)
IF_THERE = (HARDWARE, HARDWARE_AGAIN)  # sealed too: of GPUs alone
SCRIPT_FILES = (RUN, BUNDLE, ENV, LOG, PHASES, RESULT)  # and ARTIFACT, where the script left one
DEAD_MAN_GRACE = 15.0  # seconds that the worker has to keep its own deadline before the watchdog does
LOCK_PATIENCE = 5.0  # seconds for a look at the lock, or for a dying predecessor, to end


def never() -> None:
    return None


def folder_key(folder: Path) -> str:
    """What marks the processes of an attempt: its place, since the same attempt may exist in two runs folders."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]


def run_attempt(folder: Path, stop: Stop = never, eyes: Eyes | None = None) -> dict[str, typing.Any]:
    """Run, or go on with, the attempt in `folder`; what result.json says. Raises Locked where another worker has it."""
    with folder_lock(folder, LOCK_PATIENCE):
        return _Execution(folder.resolve(), stop, eyes or Eyes(), Clocks()).run()


class _Execution:
    def __init__(self, folder: Path, stop: Stop, eyes: Eyes, clocks: Clocks) -> None:
        self.folder, self.eyes, self.clocks = folder, eyes, clocks
        self.stop: Stop = lambda: stop() or clocks.look()
        self.began, self.started_at = time.monotonic(), now_utc()
        self.marker = f"{folder_key(folder)}:{secrets.token_hex(8)}"
        self.left: Left | None = None  # of a script

    def clock(self) -> float:
        return time.monotonic() - self.began

    def run(self) -> dict[str, typing.Any]:
        if kind_of(self.folder) == SCRIPT:
            stage, scratch = SCRIPT_STAGE, str(self.folder / WORK)
        else:
            stage, scratch = "train", tempfile.mkdtemp(prefix="golf-val-")
        kill_carriers(self.marker.partition(":")[0] + ":")  # of an execution that was killed a moment ago
        watchdog = guard(self.marker, scratch, given_seconds(self.folder) + DEAD_MAN_GRACE)
        try:
            self.asked = read_json(self.folder / RUN)
            if (self.folder / NODE).exists():  # of a cluster: where the data lies here
                self.asked["data"] |= read_json(self.folder / NODE)["data"]
            self.limits = Limits(**self.asked["limits"])
            (self.folder / RESULT).unlink(missing_ok=True)
            if stage == SCRIPT_STAGE:
                ended = self.data_changed() or self.script()
            elif is_sealed(self.folder, TRAIN_SEAL):
                cut_to_train_seal(self.folder)
                ended = self.data_changed() or Ended("completed", "", 0)
                if ended.cls == "completed" and (refused := self.hardware(HARDWARE_AGAIN)) is not None:
                    stage, ended = "evaluate", refused  # the training stays
            else:
                ended = self.data_changed() or self.train(Path(scratch))
            if stage == "train" and ended.cls == "completed":
                stage = "evaluate"
                ended = self.evaluate(Path(scratch))
            if ended.cls == "completed":
                ended = self.data_changed() or self.clock_disturbed() or ended
        except (OSError, RunDirError) as error:  # disk full, permissions: of the machine, not of the run
            ended = Ended("launch_error", str(error), None)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            os.close(watchdog)
        return self.finish(stage, ended)

    def data_changed(self) -> Ended | None:
        """The end of an attempt whose data is not what its id names any more; never a fault from outside, or touching
        a shard would void a score that somebody does not like."""
        found = changed(self.asked["data"])
        return None if found is None else Ended("data_changed", found, None)

    def clock_disturbed(self) -> Ended | None:
        """The end of an attempt whose times nobody can tell, since the machine slept meanwhile."""
        cls = self.clocks.look(at_once=True)
        return None if cls is None else Ended(cls, STOPPED[cls], None)

    def hardware(self, name: str, env: Mapping[str, str] | None = None) -> Ended | None:
        """The end of an attempt whose GPUs are not what it asks for; what was found is written down either way.
        `env`: of the program, where it is no bundle's."""
        target = self.asked["target"]
        env = bundle_environment(os.environ, target) if env is None else env
        found = verify(self.asked, env, self.marker, self.stop, self.eyes)
        if found.report is not None:
            write_json(self.folder / name, found.report)
        return found.ended

    def there(self) -> list[str]:
        return [name for name in IF_THERE if (self.folder / name).is_file()]

    def train(self, scratch: Path) -> Ended:
        self.begin(APPENDED)
        write_json(self.folder / ENV, describe_machine(self.asked["target"], nvml=self.eyes.nvml))
        if (refused := self.hardware(HARDWARE)) is not None:
            return refused
        steps = FirstSteps(self.folder / METRICS, self.asked.get("hardware"))
        ended = self.stage("train", ["train", "--out", str(self.folder)], str(self.data(scratch)), steps)
        if (self.folder / HARDWARE).is_file():
            write_json(self.folder / HARDWARE, read_json(self.folder / HARDWARE) | {"steps": steps.report()})
        if ended.cls != "completed":
            return ended
        if missing := self.missing(TRAIN_FILES):
            return Ended("artifact", f"the train stage ended well but left no {missing}", 0)
        if (other := self.data_changed() or self.clock_disturbed()) is not None:
            return other
        write_seal(self.folder, TRAIN_SEAL, [*TRAIN_FILES, *self.there()], {**self.facts(), "stage": "train"})
        return ended

    def script(self) -> Ended:
        """Somebody's own program, from its start to its end."""
        self.begin((LOG, PHASES))
        target, script = self.asked["target"], Script.from_dict(self.asked["script"])
        env = script_environment(os.environ, target, dict(script.env))
        write_json(self.folder / ENV, describe_machine(target, env, self.eyes.nvml))
        if (refused := self.hardware(HARDWARE, env)) is not None:
            return refused
        work = lay_out(self.folder)
        env |= self.variables(self.asked["data"]["path"])
        command = launch_command(target, work / BUNDLE)
        ended = run_stage(
            SCRIPT_STAGE, command, env, self.folder, self.limits, self.clock, self.stop, self.marker, work
        )
        if ended.cls == "completed":
            self.left = take_artifact(self.folder, script)
        return ended

    def begin(self, names: tuple[str, ...]) -> None:
        """The files that grow, empty. Never a second training in one folder."""
        for name in names:
            if (self.folder / name).exists():
                raise RunDirError(f"{self.folder / name} is there already: this attempt was begun")
        for name in names:
            (self.folder / name).touch()

    def variables(self, data_path: str) -> dict[str, str]:
        """What every program of ours or others is told of its run."""
        return {
            "SEED": str(self.asked["seed"]),
            "DATA_PATH": data_path,
            "TOKENIZER_PATH": self.asked["data"]["tokenizer_path"],
            VARIABLE: self.marker,
        }

    def data(self, scratch: Path) -> Path:
        """The folder of shards; of a rehearsal a short form of it."""
        path, rehearsal = Path(self.asked["data"]["path"]), self.asked.get("rehearsal")
        if rehearsal is None:
            return path
        short = scratch / "short"
        return short if short.exists() else lay_out_short(path, short, rehearsal["validation_tokens"])

    def evaluate(self, scratch: Path) -> Ended:
        shown = scratch / "validation"
        shown.mkdir()
        for shard in sorted(self.data(scratch).glob("*_val_*.bin")):
            (shown / shard.name).symlink_to(shard.resolve())
        arguments = ["evaluate", "--artifact", str(self.folder / ARTIFACT), "--out", str(self.folder)]
        ended = self.stage("evaluate", arguments, str(shown))
        if ended.cls == "completed" and (missing := self.missing((SCORES, SCORE_LEDGER))):
            return Ended("artifact", f"the evaluate stage ended well but left no {missing}", 0)
        return ended

    def stage(self, stage: str, arguments: list[str], data_path: str, judge: Judge = never) -> Ended:
        target = self.asked["target"]
        env = bundle_environment(os.environ, target) | self.variables(data_path)
        command = [*launch_command(target, self.folder / BUNDLE), *arguments, "--dtype", target["dtype"]]
        return run_stage(stage, command, env, self.folder, self.limits, self.clock, self.stop, self.marker, judge=judge)

    def missing(self, files: tuple[str, ...]) -> str:
        return ", ".join(name for name in files if not (self.folder / name).is_file())

    def facts(self) -> dict[str, typing.Any]:
        return {key: self.asked[key] for key in ("run_id", "attempt_id", "seed")}

    def finish(self, stage: str, ended: Ended) -> dict[str, typing.Any]:
        result = {
            "schema_version": SCHEMA_VERSION,
            "outcome": "completed" if ended.cls == "completed" else "failed",
            "class": ended.cls,
            "stage": stage,
            "message": ended.message,
            "exit_code": ended.exit_code,
            **self.seconds(stage),
            "started_at": self.started_at,
            "ended_at": now_utc(),
            "worker_seconds": self.clock(),
            "clock_disturbances": self.clocks.disturbances,
        }
        if self.left is not None:
            result |= self.left.to_dict()
        write_json(self.folder / RESULT, result)
        if ended.cls == "completed" and self.left is not None:
            artifact = (ARTIFACT,) if self.left.artifact is not None else ()
            write_seal(self.folder, SEAL, (*SCRIPT_FILES, *artifact, *self.there()), self.facts())
        elif ended.cls == "completed":
            voided_logs = [path.name for path in self.folder.glob("evaluate-*.void.log")]
            write_seal(self.folder, SEAL, [*FINAL_FILES, *self.there(), *voided_logs], self.facts())
        return result

    def seconds(self, stage: str) -> dict[str, float | None]:
        """By the worker's clock. When a script trains and when it evaluates, its log alone can tell."""
        rows = read_jsonl(self.folder / PHASES)
        if stage == SCRIPT_STAGE:
            return {"train_seconds": None, "evaluate_seconds": None, "run_seconds": phase_seconds(rows, ("stage",))}
        return {f"{name}_seconds": phase_seconds(rows, phases) for name, phases in TIMED.items()}


def kind_of(folder: Path) -> str:
    """What run.json says that this is an attempt at; where it cannot be read, the attempt fails by that."""
    try:
        return str(read_json(folder / RUN).get("kind", RECIPE))
    except RunDirError:
        return RECIPE


def given_seconds(folder: Path) -> float:
    """What run.json gives the attempt in all; nothing where it cannot be read."""
    try:
        return Limits(**read_json(folder / RUN)["limits"]).attempt_s
    except (RunDirError, KeyError, TypeError):
        return 0.0


def launch_command(target: Mapping[str, typing.Any], bundle: Path) -> list[str]:
    """How the bundle is started: literal torchrun, by the module that is behind it."""
    if target["launcher"] == "python":
        return [sys.executable, str(bundle)]
    processes = f"--nproc_per_node={target['processes']}"
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", processes, str(bundle)]


def cut_to_train_seal(folder: Path) -> None:
    """Take away what an interrupted evaluation wrote; the dropped end of the log is kept under another name."""
    files = verify_seal(folder, TRAIN_SEAL)["files"]
    sizes = {name: files[name]["size"] for name in APPENDED}
    with (folder / LOG).open("rb") as log:
        log.seek(sizes[LOG])
        dropped = log.read()
    if dropped:
        number = 1 + len(list(folder.glob("evaluate-*.void.log")))
        (folder / f"evaluate-{number}.void.log").write_bytes(dropped)
    for name, size in sizes.items():
        os.truncate(folder / name, size)
    for name in (SCORES, SCORE_LEDGER, SEAL, HARDWARE_AGAIN):
        (folder / name).unlink(missing_ok=True)


def main(folder: Path) -> int:
    """The worker as a process of its own: for the process backend."""
    said: str | None = None

    def parent() -> str | None:
        nonlocal said
        if said is None and select.select([0], [], [], 0)[0]:
            said = "cancelled" if os.read(0, 1) == b"c" else "orphaned"
        return said

    def terminated(signum: int, frame: object) -> None:
        nonlocal said
        said = said or "preempted"  # the machine goes down, or is taken away, and gives us a moment

    signal.signal(signal.SIGTERM, terminated)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: meant for the submitting process
    try:
        run_attempt(folder, parent)
    except Locked as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:  # not even the result could be written: whoever looks finds that we are gone
        print(f"error: {folder.name}: {error}", file=sys.stderr)
        return 4
    return 0
