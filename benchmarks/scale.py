"""What a grid costs its controller: plan, drive, status and resume with 30, 100, 300 and 1,000 runs.

    python benchmarks/scale.py [--runs 30,100,300,1000] [--places 8] [--processes 30]

The grid is the demo recipe with one learning rate a variant and two seeds: real bundles, plans, ledger, attempt
folders, seals. Nothing is trained: attempts run on the scriptable fake backend, which writes and seals a small folder
and starts no process, so that what is measured is ours alone. With --processes a grid of so many runs goes through real
workers too, each with a bundle that does nothing (a tiny script): that adds what two interpreters a run take to start.
Tables are left out (`results collect` has its own benchmark).

Every figure is of a process of its own, start of Python included. The claims: plan under 2 s, status under 0.5 s and
less than 500 MB at 300 runs; CPU-seconds a run that do not grow with their number. Seconds are CPU-seconds, which the
other tenants of a machine change less; wall seconds stand beside those of plan and status.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.idle import idle_text  # noqa: E402

SEEDS = "1,2"
MEGABYTE = 1e6
CLAIMS = {"plan": 2.0, "status": 0.5}  # wall seconds at 300 runs
MEMORY = 500.0  # MB of the controller, at 300 runs
GROWTH = 1.15  # exponent of the runs that CPU-seconds may follow


def write_grid(path: Path, runs: int) -> None:
    rates = ", ".join(f"{0.001 + number * 1e-5:.5f}" for number in range(runs // len(SEEDS.split(","))))
    path.write_text(f'name = "scale"\nrecipe = "demo"\n\n[axes]\noptim.matrix_lr = [{rates}]\n', encoding="utf-8")


def submit_here(folder: Path, places: int, processes: bool) -> int:
    """A submit of the grid in this process, with the backend, the places and the bundle of the benchmark."""
    from orchestrator import grid_run, preflight
    from orchestrator.backends.fake import FakeBackend
    from orchestrator.cli import main
    from orchestrator.outcome import Outcome
    from orchestrator.spec import Submission

    def untabled(submission: Submission, runs_dir: Path, quiet: bool) -> Outcome:
        return Outcome(submission, 0, [], runs_dir)

    grid_run.finish = untabled  # type: ignore[assignment]
    if processes:
        preflight.build = lambda config: idle_text(0.0, config.name)  # type: ignore[assignment]
    else:
        grid_run.slots_of = lambda target: places  # type: ignore[assignment]
        grid_run.load_backend = lambda name, runs_dir: FakeBackend(runs_dir)  # type: ignore[assignment]
    sys.argv = ["submit", *submit_arguments(folder)]
    main()
    return 0


def submit_arguments(folder: Path) -> list[str]:
    given = ["submit", "--grid", str(folder / "grid.toml"), "--runs-dir", str(folder / "runs"), "--seeds", SEEDS]
    return [*given, "--on", "process", "--launcher", "python", "-q"]


def timed(command: list[str], expected: int = 0) -> dict[str, float]:
    """Wall seconds, CPU-seconds and peak memory of a process, with its children's CPU."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GOLF_")} | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode != expected:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said.decode()[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "memory": used.ru_maxrss * 1024 / MEGABYTE}


def measure(runs: int, places: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="golf-scale-") as name:
        folder = Path(name)
        write_grid(folder / "grid.toml", runs)
        ours = [sys.executable, "-m", "orchestrator"]
        child = [sys.executable, __file__, "--child", str(folder), "--places", str(places)]
        plan = timed([*ours, *submit_arguments(folder), "--dry-run"])
        drive = timed(child)
        status = timed([*ours, "status", "--runs-dir", str(folder / "runs")])
        whole = timed([*ours, "status", "scale", "--runs-dir", str(folder / "runs")])
        again = timed([*ours, *submit_arguments(folder), "--dry-run"])
        return {
            "runs": runs,
            "plan wall s": plan["wall"],
            "plan CPU s": plan["cpu"],
            "drive CPU s": drive["cpu"],
            "drive ms/run": 1e3 * drive["cpu"] / runs,
            "peak MB": drive["memory"],
            "status wall s": status["wall"],
            "of the grid s": whole["wall"],
            "its CPU s": whole["cpu"],
            "plan again s": again["wall"],
            "ledger MB": (folder / "runs" / "ledger.sqlite").stat().st_size / MEGABYTE,
        }


def growth(rows: list[dict[str, float]], name: str) -> float:
    """The exponent of the number of runs that a figure follows, between the first and the last row, without what one
    run would take."""
    first, last = rows[0], rows[-1]
    return math.log(last[name] / first[name]) / math.log(last["runs"] / first["runs"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="30,100,300,1000")
    parser.add_argument("--places", type=int, default=8, help="runs at a time")
    parser.add_argument("--processes", type=int, default=0, metavar="RUNS", help="so many through real workers too")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        submit_here(given.child, given.places, given.workers)
        return
    rows: list[dict[str, float]] = []
    for runs in map(int, given.runs.split(",")):
        rows.append(measure(runs, given.places))
        if len(rows) == 1:
            print("  ".join(f"{name:>13}" for name in rows[0]))
        print("  ".join(f"{value:>13,.{0 if name == 'runs' else 2}f}" for name, value in rows[-1].items()), flush=True)
    if len(rows) > 1:
        told = {name: growth(rows, name) for name in ("plan CPU s", "drive CPU s", "its CPU s")}
        print("grows with the runs to the power of: " + ", ".join(f"{name[:-6]} {told[name]:.2f}" for name in told))
    if given.processes:
        with tempfile.TemporaryDirectory(prefix="golf-scale-") as name:
            write_grid(Path(name) / "grid.toml", given.processes)
            real = timed([sys.executable, __file__, "--child", name, "--workers"])
        told_real = f"{real['cpu'] / given.processes:.2f} CPU-seconds a run, {real['memory']:.0f} MB"
        print(f"{given.processes} runs through real workers and an idle script: {told_real}")
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
