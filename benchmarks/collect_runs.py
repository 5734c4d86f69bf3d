"""How long `python -m results collect --all` takes over 300 sealed runs: cold, warm, and beside peers.

    python benchmarks/collect_runs.py [--submissions 100] [--artifact-mb 0.5] [--rounds 5] [--keep FOLDER]

Makes 100 submissions of 3 seeds, sealed, with the demo's real bundle, log and metrics of a real run's length, and an
artifact of random bytes (16 for the race's size). Each measurement is a process of its own, its start and the import
of pandas included; what is shown is the median of the rounds. Nobody else's work is subtracted: CPU-seconds stand
beside the wall's.

    cold    nothing is remembered: every sealed file is hashed (the files lie in the page cache, for all of us alike)
    warm    nothing was touched since the last time
    one     `collect SUBMISSION`, which also writes runs/results.csv over all
    sha256sum   all the same bytes through coreutils, which makes no table
    pandas      reads each submission's results.csv as we wrote it, and checks nothing
    import      what an interpreter takes to import pandas and the command line, which every row but sha256sum holds

The claim: warm under 3 s.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from golf_core.bundle import build_bundle  # noqa: E402
from golf_core.recipes import load_recipe  # noqa: E402
from golf_core.rundir import LOG, METRICS, SEAL, TRAIN_FILES, TRAIN_SEAL, write_seal  # noqa: E402
from results.collect import collect  # noqa: E402
from results.content import RACY_NS, REMEMBERED  # noqa: E402
from results.outputs import write_outputs  # noqa: E402
from tests.results.attempts import FINAL_FILES, Runs, stage  # noqa: E402

CLAIM_SECONDS = 3.0
STEPS = 600  # lines of metrics.jsonl and log.txt, as the record's runs have them
PEER = """
import pathlib, pandas
found = pandas.concat(pandas.read_csv(path) for path in sorted(pathlib.Path({runs!r}).glob("*/results.csv")))
print(found.groupby("recipe").val_bpb.agg(["count", "mean", "std"]))
"""


def make(runs_dir: Path, submissions: int, artifact_bytes: int) -> None:
    """Sealed submissions of three seeds; each has another bundle, since another recipe has."""
    bundle, rng = build_bundle(load_recipe("demo").config), random.Random(0)
    lines = "".join(f"step:{step}/{STEPS} train_loss:{3 + 1 / step:.4f} step_avg:83.87ms\n" for step in range(1, STEPS))
    for number in range(submissions):
        code = bundle.replace("name='demo'", f"name='variant_{number:03d}'")
        runs = Runs(runs_dir, code=code, recipe=f"variant_{number:03d}")
        for seed in runs.seeds:
            bpb = 1.12 + rng.gauss(0, 0.001)
            stages = {
                "roundtrip": stage(bpb + 0.03),
                "sliding": stage(bpb),
                "ttt": stage(bpb - 0.003, loop_seconds=9.0),
            }
            folder = runs.attempt(seed, artifact=rng.randbytes(artifact_bytes), stages=stages)
            steps = "".join(json.dumps({"event": "step", "step": i, "loss": 3.0}) + "\n" for i in range(STEPS))
            (folder / METRICS).write_text(steps + (folder / METRICS).read_text())
            (folder / LOG).write_text(lines)
            write_seal(folder, TRAIN_SEAL, TRAIN_FILES, {"stage": "train"})
            write_seal(folder, SEAL, FINAL_FILES, {"attempt_id": folder.name, "seed": seed})
        write_outputs(collect(runs.folder))


def measure(command: Sequence[str], rounds: int, before: Callable[[], None] = lambda: None) -> tuple[float, float]:
    """Medians of wall seconds and CPU-seconds of a process."""
    walls, cpus = [], []
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for _ in range(rounds):
        before()
        used, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, check=True)
        walls.append(time.perf_counter() - start)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(end.ru_utime + end.ru_stime - used.ru_utime - used.ru_stime)
    return statistics.median(walls), statistics.median(cpus)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--submissions", type=int, default=100)
    parser.add_argument("--artifact-mb", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="make the runs in this folder, and leave them there")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="collect_runs"))
    runs = folder / "runs"
    try:
        if not runs.exists():
            make(runs, asked.submissions, int(asked.artifact_mb * 1e6))
        time.sleep(RACY_NS / 1e9 + 0.5)  # what was just written is hashed again, rightly
        total = sum(path.stat().st_size for path in runs.rglob("*") if path.is_file())
        print(f"{3 * asked.submissions} runs, {total / 1e6:,.0f} MB; medians of {asked.rounds}")
        return report(runs, asked.rounds)
    finally:
        if asked.keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def report(runs: Path, rounds: int) -> int:
    command = [sys.executable, "-m", "results", "collect", "--runs-dir", str(runs)]
    one = min(path.parent.name for path in runs.glob("*/spec.json"))
    hashing = f"find {runs} -type f -print0 | xargs -0 sha256sum"
    found = {
        "cold": measure([*command, "--all"], rounds, lambda: (runs / REMEMBERED).unlink(missing_ok=True)),
        "warm": measure([*command, "--all"], rounds),
        "one": measure([*command, one], rounds),
        "import": measure([sys.executable, "-c", "import pandas, typer"], rounds),
        "sha256sum": measure(["sh", "-c", hashing], rounds),
        "pandas": measure([sys.executable, "-c", PEER.format(runs=str(runs))], rounds),
    }
    print(f"{'':<10} {'wall s':>8} {'CPU-s':>8} {'x sha256sum':>12} {'x pandas':>9}")
    for name, (wall, cpu) in found.items():
        shares = (wall / found[peer][0] for peer in ("sha256sum", "pandas"))
        print(f"{name:<10} {wall:8.2f} {cpu:8.2f} {next(shares):12.2f} {next(shares):9.2f}")
    held = found["warm"][0] < CLAIM_SECONDS
    print(f"claim: warm under {CLAIM_SECONDS:.0f} s: {'held' if held else 'NOT held'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
