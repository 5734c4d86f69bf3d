"""What we add to Modal's own client, against a control plane on loopback: no account, no GPU, real containers' code.

    python benchmarks/modal_loopback.py [--rounds 5] [--seconds 60]

Each figure stands beside its peer, taken in the same run:
* import of jobs/train.py                         beside `import modal`
* submit --detach of three seeds, to its return   beside a bare client that spawns three calls of the deployed function
* modal run of three tiny seeds, end to end       beside `modal run` of an app of three calls that return at once, and
                                                  beside the same three seeds with --on process
* seconds that are billed for a run of known length, beside the estimate that the plan makes once one seed is done, and
  beside what the ledger says that it cost
The claims: import under 1 s, submit under 5 s, end to end under 60 s, billed within 10 % of the estimate.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.modal_plane import Plane  # noqa: E402

TINY = ("--recipe", "demo", "--set", "train.iterations=10", "--set", "ttt.kind=none", "--set", "evaluate.stride=128")
QUICK = ("--launcher", "python", "--budget", "5")
SEEDS = "1337,42,2025"
SPAWNS = """
import modal
function = modal.Function.from_name("bare", "nothing")
print([function.spawn(i).object_id for i in range(3)])
"""
APP = """
import modal
app = modal.App("bare")

@app.function()
def nothing(i: int) -> int:
    return i

@app.local_entrypoint()
def main() -> None:
    print(list(nothing.map(range(3))))
"""
SCRIPT = """
import os, time
for step in range(1, {seconds} + 1):
    time.sleep(1)
    print(f"step:{{step}}/{seconds} train_loss:3.0000 train_time:{{1000 * step}}ms", flush=True)
open("final_model.int8.ptz", "wb").write(b"weights")
print("final_int8_zlib_roundtrip val_loss:2.0000 val_bpb:1.2000 eval_time:10ms")
print("final_int8_zlib_roundtrip_exact val_loss:2.00000000 val_bpb:1.20000000")
"""


class Bench:
    def __init__(self, folder: Path, plane: Plane) -> None:
        self.folder, self.plane = folder, plane
        self.env = plane.environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def run(self, *command: str, codes: tuple[int, ...] = (0,)) -> tuple[float, float, str]:
        """Wall seconds, CPU-seconds, and what it printed on stdout."""
        before, began = os.times(), time.monotonic()
        done = subprocess.run([sys.executable, *command], cwd=ROOT, env=self.env, capture_output=True, text=True)
        wall, after = time.monotonic() - began, os.times()
        if done.returncode not in codes:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return wall, cpu, done.stdout

    def submit(self, runs: str, *flags: str, codes: tuple[int, ...] = (0,)) -> tuple[float, float, str]:
        where = ("--runs-dir", str(self.folder / runs))
        return self.run("-m", "orchestrator", "submit", "-y", *flags, *where, codes=codes)

    def imports(self, rounds: int) -> None:
        for what in ("import modal", "import jobs.train"):
            took = [self.run("-c", what) for _ in range(rounds)]
            wall, cpu = (statistics.median(one[part] for one in took) for part in (0, 1))
            print(f"{what:<44} {wall:7.2f} s {cpu:7.2f} CPU-s")

    def latency(self, rounds: int) -> None:
        (app := self.folder / "bare.py").write_text(APP)
        self.run("-m", "modal", "deploy", str(app))
        self.run("-m", "modal", "deploy", "jobs/train.py")
        script = self.folder / "three.py"
        bare, ours = [], []
        for number in range(rounds):
            script.write_text(SCRIPT.format(seconds=1) + f"# {number}\n")
            flags = ("--script", str(script), "--gpus", "0", "--seeds", SEEDS, "--detach", *QUICK)
            ours.append(self.submit(f"latency{number}", "--on", "modal", *flags))
            bare.append(self.run("-c", SPAWNS))
            self.settle()
        first, *later = ours  # the first deploys the app of containers without GPUs
        print(f"{'a bare client spawns three calls':<44} {statistics.median(one[0] for one in bare):7.2f} s")
        print(f"{'submit --detach of three seeds':<44} {statistics.median(one[0] for one in later):7.2f} s")
        print(f"{'the same, deploying first':<44} {first[0]:7.2f} s")

    def settle(self) -> None:
        """Wait until no container is left."""
        while any(one.alive for one in self.plane.containers()) or any(
            one.state != "done" for one in self.plane.calls()
        ):
            time.sleep(0.2)

    def end_to_end(self) -> None:
        wall, _, _ = self.run("-m", "modal", "run", str(self.folder / "bare.py"))
        print(f"{'modal run of three calls that return at once':<44} {wall:7.2f} s")
        tiny = (*TINY, "--launcher", "python", "--seeds", SEEDS)
        wall, _, _ = self.submit("here", "--on", "process", *tiny, codes=(0, 4))
        print(f"{'three tiny seeds with --on process':<44} {wall:7.2f} s")
        where = ("--runs-dir", str(self.folder / "there"))
        wall, _, _ = self.run("-m", "modal", "run", "jobs/train.py", *tiny, "--budget", "5", *where, codes=(0, 4))
        print(f"{'modal run jobs/train.py of three tiny seeds':<44} {wall:7.2f} s")

    def billed(self, seconds: int) -> None:
        script = self.folder / "known.py"
        script.write_text(SCRIPT.format(seconds=seconds))
        flags = ("--on", "modal", "--script", str(script), "--gpus", "0", *QUICK)
        self.submit("bill", *flags, "--seeds", "1", codes=(0, 3, 4))
        before = {one.task_id for one in self.plane.containers()}
        told = json.loads(self.submit("bill", *flags, "--seeds", "1,2,3", "--dry-run", "--json")[2])
        estimate = told["cost"]["expected_seconds"]["all"]
        self.submit("bill", *flags, "--seeds", "1,2,3", codes=(0, 3, 4))
        self.settle()
        billed = math.fsum(one.seconds for one in self.plane.containers() if one.task_id not in before)
        where = ("--runs-dir", str(self.folder / "bill"), "--json")
        status = json.loads(self.run("-m", "orchestrator", "status", *where, codes=(0, 3))[2])
        paid = status["cost"]["usd"] / told["cost"]["usd_per_hour"] * 3600
        print(f"{f'two seeds of {seconds} s: estimated':<44} {estimate:7.2f} s")
        print(f"{'billed, by the clock of the loopback':<44} {billed:7.2f} s  {billed / estimate - 1:+.1%}")
        print(f"{'by the ledger':<44} {paid:7.2f} s  {paid / billed - 1:+.1%} of what is billed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="golf-modal-") as folder, Plane(Path(folder) / "plane") as plane:
        bench = Bench(Path(folder), plane)
        bench.imports(args.rounds)
        bench.latency(args.rounds)
        bench.end_to_end()
        bench.billed(args.seconds)


if __name__ == "__main__":
    main()
