"""The demo as a user runs it: wall time, peak memory of all processes together, scores, artifact.

    python benchmarks/demo.py [--on ray|process] [--seeds 1337,42,2025] [--keep FOLDER]

Runs `python -m orchestrator submit` into a new runs folder and samples the proportional set size (PSS: shared
pages counted once) of the submitting process and everything below it, Ray's own processes too. Beside the
figures stand the issue's limits for two cores.
"""

import argparse
import contextlib
import csv
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

LIMITS = {"wall": 360.0, "memory": 4e9, "bpb": 1.70, "artifact": 1_000_000}
SAMPLE_SECONDS = 3.0  # a look holds up the process that is looked at


def tree_pss(root: psutil.Process) -> int:
    """Bytes of the process and all below it; one that ends while being looked at counts nothing."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            total += next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
    return total


def watch(root: psutil.Process, over: threading.Event, peaks: list[int]) -> None:
    while not over.wait(SAMPLE_SECONDS):
        try:
            peaks.append(tree_pss(root))
        except psutil.Error:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", default="ray", choices=("ray", "process"))
    parser.add_argument("--seeds", default="1337,42,2025")
    parser.add_argument("--keep", type=Path, help="runs folder to use and keep (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="golf-demo-") as scratch:
        runs = arguments.keep or Path(scratch) / "runs"
        command = [sys.executable, "-m", "orchestrator", "submit", "-y", "--on", arguments.on]
        command += ["--seeds", arguments.seeds, "--runs-dir", str(runs)]
        begin, over, peaks = time.monotonic(), threading.Event(), [0]
        process = subprocess.Popen(command)
        watcher = threading.Thread(target=watch, args=(psutil.Process(process.pid), over, peaks))
        watcher.start()
        code = process.wait()
        wall = time.monotonic() - begin
        over.set()
        watcher.join()
        if code:
            sys.exit(code)
        with (runs / "results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    bpb = statistics.mean(float(row["post_ttt_bpb"]) for row in rows)
    artifact = max(int(row["artifact_bytes"]) for row in rows)
    print(f"\nsubmit --on {arguments.on}, {len(rows)} seeds")
    print(f"{'wall time':28} {wall:12.1f} s      limit {LIMITS['wall']:.0f} s")
    print(f"{'peak memory (PSS, all)':28} {max(peaks) / 1e6:12.0f} MB     limit {LIMITS['memory'] / 1e6:.0f} MB")
    print(f"{'mean post-TTT BPB':28} {bpb:12.5f}        limit {LIMITS['bpb']:.2f}")
    print(f"{'largest artifact':28} {artifact:12,} B      limit {LIMITS['artifact']:,} B")


if __name__ == "__main__":
    main()
