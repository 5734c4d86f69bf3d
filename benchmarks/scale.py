"""What a grid costs its controller: plan, drive, status and resume with 30, 100, 300 and 1,000 runs.

    python benchmarks/scale.py [--runs 30,100,300,1000] [--places 8] [--p95 1500] [--processes 30] [--cluster 300]

The grid is the demo recipe with one learning rate a variant and two seeds: real bundles, plans, ledger, attempt
folders, seals. Nothing is trained: attempts run on the scriptable fake backend, which writes and seals a small folder
and starts no process, so that what is measured is ours alone. With --p95 plan and status of so many finished runs are
asked again and again: what one of twenty takes longer than. With --processes a grid of so many runs goes through real
workers too, each with a bundle that does nothing (a tiny script): that adds the interpreters that a run starts. With
--cluster they go to a real Ray cluster on the loopback, three nodes of eight declared GPUs (tests/cluster.py): the
controller is a job on its head, and what is told of it is its own memory and CPU-seconds. Tables are left out (`results
collect` has its own benchmark).

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
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.idle import idle_text  # noqa: E402

SEEDS = "1,2"
MEGABYTE = 1e6
CLAIMED = 300  # runs
CLAIMS = {"plan wall s": 2.0, "status wall s": 0.5, "of the grid s": 0.5, "peak MB": 500.0}  # at so many
SETTLED = 100  # runs from which on a figure is not the start of Python


def write_grid(path: Path, runs: int) -> None:
    rates = ", ".join(f"{0.001 + number * 1e-5:.5f}" for number in range(runs // len(SEEDS.split(","))))
    path.write_text(f'name = "scale"\nrecipe = "demo"\n\n[axes]\noptim.matrix_lr = [{rates}]\n', encoding="utf-8")


def submit_here(folder: Path, places: int, processes: bool, given: list[str]) -> None:
    """A submit of the grid in this process, with the backend, the places and the bundle of the benchmark."""
    from orchestrator import finish, preflight
    from orchestrator.backends.fake import FakeBackend
    from orchestrator.cli import main
    from orchestrator.grids import run as grid_run

    finish.results_command = lambda *asked: 0  # type: ignore[assignment]
    if processes:
        preflight.build = lambda config: idle_text(0.0, config.name)  # type: ignore[assignment]
    else:
        grid_run.slots_of = lambda target: places  # type: ignore[assignment]
        grid_run.load_backend = lambda name, runs_dir: FakeBackend(runs_dir)  # type: ignore[assignment]
    sys.argv = ["submit", *submit_arguments(folder, given)]
    main()


def submit_arguments(folder: Path, more: Sequence[str] = ()) -> list[str]:
    given = ["submit", "--grid", str(folder / "grid.toml"), "--runs-dir", str(folder / "runs"), "--seeds", SEEDS]
    return [*given, "--on", "ray" if more else "process", "--launcher", "python", "-q", *more]


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


def measure(runs: int, places: int, megabytes: int) -> dict[str, float]:
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
        log = follow_log(folder / "runs", megabytes)
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
            "log MB/s": log["rate"],
            "its peak MB": log["memory"],
            "ledger MB": (folder / "runs" / "ledger.sqlite").stat().st_size / MEGABYTE,
        }


def ninety_fifth(runs: int, places: int, times: int = 40) -> str:
    """Of so many finished runs: the wall seconds that one plan, or status, of twenty takes longer than."""
    with tempfile.TemporaryDirectory(prefix="golf-scale-") as name:
        folder = Path(name)
        write_grid(folder / "grid.toml", runs)
        timed([sys.executable, __file__, "--child", str(folder), "--places", str(places)])
        ours, there = [sys.executable, "-m", "orchestrator"], ["--runs-dir", str(folder / "runs")]
        asked = {
            "plan": [*ours, *submit_arguments(folder), "--dry-run"],
            "status": [*ours, "status", *there],
            "status of the grid": [*ours, "status", "scale", *there],
        }
        walls = {what: sorted(timed(command)["wall"] for _ in range(times)) for what, command in asked.items()}
        told = (
            f"{what} {found[math.ceil(0.95 * times) - 1]:.2f} s (median {found[times // 2]:.2f})"
            for what, found in walls.items()
        )
        return f"p95 of {times} with {runs:,} finished runs: " + ", ".join(told)


def follow_log(runs_dir: Path, megabytes: int) -> dict[str, float]:
    """All of a long log, as `logs` shows it: megabytes a CPU-second. It breaks the attempt's seal, so it comes last."""
    attempt = min((runs_dir / "attempts").iterdir())
    asked = json.loads((attempt / "run.json").read_text(encoding="utf-8"))
    line = b"step:100/20000 train_loss:3.1415 train_time:600000ms step_avg:60.00ms\n"
    with (attempt / "log.txt").open("ab") as log:
        for _ in range(megabytes):
            log.write(line * (1_000_000 // len(line)))
    command = ["logs", asked["submission_id"][:12], "--seed", str(asked["seed"]), "--runs-dir", str(runs_dir)]
    shown = timed([sys.executable, "-m", "orchestrator", *command])
    return {"rate": megabytes / shown["cpu"], "memory": shown["memory"]}


def through_cluster(runs: int) -> str:
    """The grid through a real cluster: what its controller took there, and the submit here."""
    from tests.cluster import NODES, Cluster, command_line

    with tempfile.TemporaryDirectory(prefix="golf-scale-") as name, Cluster(NODES) as cluster:
        write_grid(Path(name) / "grid.toml", runs)
        state = cluster.folder / "state"
        where = ["--address", cluster.address, "--state-dir", str(state), "--node-dir", str(cluster.folder / "node")]
        given = [*where, "--gpus", "H100:4", "-y"]
        env = cluster.environment()
        began, told = time.perf_counter(), Path(name) / "told.txt"
        with told.open("w") as stderr:  # a pipe that nobody reads meanwhile would fill, and hold it up
            submit = subprocess.Popen(
                [sys.executable, __file__, "--child", name, "--workers", "--given", json.dumps(given)],
                env=env, stdout=subprocess.DEVNULL, stderr=stderr,
            )  # fmt: skip
        seen: dict[int, tuple[float, float]] = {}  # of the controller's processes: peak MB, CPU-seconds
        while submit.poll() is None:
            for pid in cluster.processes("head"):
                if "orchestrator.cluster.control drive" in command_line(pid):
                    seen[pid] = used_by(pid) or seen.get(pid, (0.0, 0.0))
            time.sleep(1.0)
        if submit.returncode:
            sys.exit(f"the submit ended with {submit.returncode}:\n{told.read_text()[-3000:]}")
        wall = time.perf_counter() - began
        asked = timed([sys.executable, "-m", "orchestrator", "status", "scale", "--runs-dir", str(state)])
    cpu, peak = sum(one[1] for one in seen.values()), max(one[0] for one in seen.values())
    return (
        f"{runs} runs on three nodes in {wall:.0f} s: the controller took {1e3 * cpu / runs:.0f} ms of CPU a run and "
        f"{peak:.0f} MB at its peak; status on the head {asked['wall']:.2f} s"
    )


def used_by(pid: int) -> tuple[float, float] | None:
    """Peak memory and CPU-seconds of a living process so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        ticks = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
    except OSError:
        return None
    peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return peak * 1024 / MEGABYTE, sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def growth(rows: list[dict[str, float]], name: str) -> float:
    """The exponent of the number of runs that a figure follows, from the first row where start-up is the smaller part
    of it to the last one."""
    first, last = next((row for row in rows if row["runs"] >= SETTLED), rows[0]), rows[-1]
    return math.log(last[name] / first[name]) / math.log(last["runs"] / first["runs"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", default="30,100,300,1000")
    parser.add_argument("--places", type=int, default=8, help="runs at a time")
    parser.add_argument("--p95", type=int, default=0, metavar="RUNS", help="p95 of plan and status with so many")
    parser.add_argument("--processes", type=int, default=0, metavar="RUNS", help="so many through real workers too")
    parser.add_argument("--log-megabytes", type=int, default=100, help="of the log that is shown")
    parser.add_argument("--cluster", type=int, default=0, metavar="RUNS", help="so many through a real Ray cluster too")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--given", default="[]", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        submit_here(given.child, given.places, given.workers, json.loads(given.given))
        return
    rows: list[dict[str, float]] = []
    for runs in map(int, given.runs.split(",")):
        rows.append(measure(runs, given.places, given.log_megabytes))
        if len(rows) == 1:
            print("  ".join(f"{name:>13}" for name in rows[0]))
        print("  ".join(f"{value:>13,.{0 if name == 'runs' else 2}f}" for name, value in rows[-1].items()), flush=True)
    if len(rows) > 1:
        told = {name: growth(rows, name) for name in ("plan CPU s", "drive CPU s", "its CPU s")}
        print("grows with the runs to the power of: " + ", ".join(f"{name[:-6]} {told[name]:.2f}" for name in told))
    for row in rows:
        if row["runs"] == CLAIMED:
            told_claims = (f"{name} {row[name]:.2f} of {most:g}" for name, most in CLAIMS.items())
            print(f"claimed at {CLAIMED} runs, figure and limit: " + ", ".join(told_claims))
    if given.p95:
        print(ninety_fifth(given.p95, given.places))
    if given.processes:
        with tempfile.TemporaryDirectory(prefix="golf-scale-") as name:
            write_grid(Path(name) / "grid.toml", given.processes)
            real = timed([sys.executable, __file__, "--child", name, "--workers"])
        told_real = f"{real['cpu'] / given.processes:.2f} CPU-seconds a run, {real['memory']:.0f} MB"
        print(f"{given.processes} runs through real workers and an idle script: {told_real}")
    if given.cluster:
        print(through_cluster(given.cluster))
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main()
