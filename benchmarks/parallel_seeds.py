"""Three seeds on three nodes against one seed: what running side by side costs.

    python benchmarks/parallel_seeds.py [--seconds 240] [--rounds 1]

A real Ray cluster on the loopback (tests/cluster.py): a head with its job server and three nodes of eight declared
GPUs each. The same job is submitted to it by --address as one seed and as three, everything of ours included: plan,
parcel, controller job, placement, workers, seals, and the way home of every file. The trainer sleeps for --seconds
(two thirds of them in training): the machine that holds all three nodes has not the processors to train on three at
once, and real nodes have their own. Tables are left out. The claim: at most 1.05 times the time of one seed.

The time of a submit is from its command to its end; that of the runs, by the head's ledger, is from the first start to
the last counted attempt. The ratio falls with --seconds, since the start of two more workers on one machine does not:
a real run sleeps for twenty minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.idle import write_idle  # noqa: E402
from orchestrator.ledger.store import Ledger  # noqa: E402
from tests.cluster import NODES, Cluster  # noqa: E402

CLAIM = 1.05
UNTABLED = ROOT / "tests" / "orchestrator" / "untabled.py"


class Bench:
    def __init__(self, cluster: Cluster, folder: Path, seconds: float) -> None:
        self.cluster, self.folder = cluster, folder
        self.bundle = folder / "idle.py"
        write_idle(self.bundle, seconds)
        self.number = 0

    def submit(self, seeds: str) -> dict[str, float]:
        """Seconds of one submit, into folders of its own."""
        self.number += 1
        state = self.cluster.folder / f"state-{self.number}"
        command = [sys.executable, str(UNTABLED), "submit", "--bundle", str(self.bundle), "--seeds", seeds, "-y", "-q"]
        command += ["--on", "ray", "--address", self.cluster.address, "--gpus", "H100:8", "--launcher", "python"]
        command += ["--runs-dir", str(self.folder / f"runs-{self.number}"), "--state-dir", str(state)]
        command += ["--node-dir", str(self.cluster.folder / f"node-{self.number}"), "--silence-seconds", "3600"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=self.folder, env=self.cluster.environment(), capture_output=True, text=True)
        wall = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"seeds {seeds}: exit code {done.returncode}\n{done.stderr[-3000:]}")
        return {"submit": wall, "runs": seconds_of_runs(state)}


def seconds_of_runs(state: Path) -> float:
    with Ledger.open(state) as ledger:
        begun = [datetime.fromisoformat(event.at) for event in ledger.events(kind="attempt_started")]
        counted = [datetime.fromisoformat(event.at) for event in ledger.events(kind="attempt_counted")]
    return (max(counted) - min(begun)).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240.0, help="that the trainer sleeps, in both stages together")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"1": [], "1,2,3": []}
    with tempfile.TemporaryDirectory(prefix="golf-seeds-") as name, Cluster(NODES) as cluster:
        bench = Bench(cluster, Path(name), given.seconds)
        for _ in range(given.rounds):
            for seeds, rows in found.items():
                rows.append(bench.submit(seeds))
                told = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in rows[-1].items())
                print(f"seeds {seeds:<6} {told}  (load {os.getloadavg()[0]:.1f})", flush=True)
    for what in ("submit", "runs"):
        one, three = (statistics.median(row[what] for row in rows) for rows in found.values())
        verdict = "met" if three / one <= CLAIM else "missed"
        print(f"{what}: three seeds take {three / one:.3f} times one; at most {CLAIM} is {verdict}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
