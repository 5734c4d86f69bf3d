"""An export from documents by one and by two Ray workers, beside encoding documents one by one.

    python benchmarks/export_documents.py [--corpus FILE ...] [--megabytes 48] [--tokenizer FILE]

All in the same run, on the same documents and tokenizer. Without --corpus the embedded text is varied to the asked
size: every repetition has other numbers between its words, so that no document comes twice. With the 48 MB it takes
about a minute on two cores. Printed for each number of workers:

    command       seconds from the start of `prepare_data` to its end; of them encoding, as documents/s and MB/s
    CPU-s         seconds of CPU of the workers, before their first block (start) and from then on (encoding)
    MB per CPU-s  10^6 bytes of UTF-8 text a CPU-second of encoding, and how many times that of `one by one`
    peak memory   the largest resident set of a worker, and of the command's own process

The claims, each told to hold or to fail (then exit code 1):

    the outputs of one and two workers are equal byte for byte
    bytes of text per CPU-second of the workers are at least twice those of `encode` called for one document after
        another in one process, once the workers are up (a worker's start takes about a CPU-second, and so does what
        it learns of the words: a small corpus shows less)
    no worker holds 1 GB
"""

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from golf_core.data.byte_count import load_tokenizer  # noqa: E402
from golf_core.data.corpus import load_corpus  # noqa: E402
from golf_core.data.embedded import embedded_data  # noqa: E402
from golf_core.data.manifest import read_manifest  # noqa: E402
from golf_core.data.shards import BOS_ID, DataError  # noqa: E402
from golf_core.prepare.blocks import read_blocks  # noqa: E402
from golf_core.prepare.encode import documents_of  # noqa: E402
from golf_core.prepare.sources import find_sources  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
LIMIT_BYTES = 1e9  # of a worker's memory
CLAIMED_RATIO = 2.0
LOOK_SECONDS = 0.05


def varied(path: Path, megabytes: float) -> Path:
    """Documents of the embedded corpus, again and again, with numbers put between their words."""
    corpus, draws = load_corpus(), random.Random(1)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < megabytes * 1e6:
            for text in (*corpus.val, *corpus.train):
                words = text.split(" ")
                for _ in range(len(words) // 50 + 1):
                    words.insert(draws.randrange(len(words) + 1), str(draws.randrange(10_000)))
                written += file.write(json.dumps({"text": " ".join(words)}) + "\n")
                if written >= megabytes * 1e6:
                    break
    return path


class Watch(threading.Thread):
    """CPU time and peak memory of the Ray workers below a process, looked at while it runs."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.over = pid, threading.Event()
        self.cpu: dict[int, float] = {}
        self.peak: dict[int, int] = {}
        self.started: dict[int, float] = {}  # CPU time of each when it was last seen before its first block
        self.begun: set[int] = set()

    def run(self) -> None:
        while not self.over.wait(LOOK_SECONDS):
            for worker, busy in workers_below(self.pid).items():
                with contextlib.suppress(OSError, ValueError, StopIteration):
                    fields = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()
                    self.cpu[worker] = (int(fields[11]) + int(fields[12])) / TICK
                    if busy:
                        self.begun.add(worker)
                    elif worker not in self.begun:
                        self.started[worker] = self.cpu[worker]
                    lines = Path(f"/proc/{worker}/status").read_text().splitlines()
                    self.peak[worker] = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def workers_below(pid: int) -> dict[int, bool]:
    """Ray's worker processes below a process, by their names and parents, and whether each is at a task."""
    parents: dict[int, int] = {}
    workers: dict[int, bool] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            name = (entry / "cmdline").read_bytes()
            if name.startswith((b"ray::apply", b"ray::IDLE")):
                workers[int(entry.name)] = name.startswith(b"ray::apply")
    return {worker: busy for worker, busy in workers.items() if pid in ancestors(worker, parents)}


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    found: set[int] = set()
    while pid in parents and pid not in found:
        found.add(pid)
        pid = parents[pid]
    return found


def one_by_one(corpus: list[Path], tokenizer: Path) -> tuple[int, float]:
    """(bytes of text, CPU-seconds) of reading and encoding one document after another, and keeping the tokens."""
    encode = load_tokenizer(tokenizer).encode
    began = time.process_time()
    size = 0
    for block in read_blocks(find_sources(corpus)):
        for _, text in documents_of(block):
            if not isinstance(text, DataError):
                np.array([BOS_ID, *encode(text)], dtype=np.uint16).tobytes()
                size += len(text.encode())
    return size, time.process_time() - began


def export(corpus: list[Path], tokenizer: Path, into: Path, workers: int) -> dict[str, float]:
    """Run the command, and measure it from outside."""
    command = [
        *(sys.executable, str(ROOT / "jobs" / "prepare_data.py"), "--documents", *map(str, corpus)),
        *("--tokenizer", str(tokenizer), "--into", str(into), "--name", "bench", "--workers", str(workers)),
        *("--val-documents", "100", "--shard-tokens", "1000000"),
    ]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    (watch := Watch(process.pid)).start()
    assert process.stderr is not None
    encoding = None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("encoding on"):
            encoding = time.monotonic()
    process.wait()
    ended = time.monotonic()
    watch.over.set()
    watch.join()
    if process.returncode or encoding is None:
        raise SystemExit("".join(said))
    manifest = read_manifest(into / "datasets" / "bench")
    assert manifest is not None
    return {
        "documents": manifest.source["documents"],
        "bytes": manifest.source["text_bytes"],
        "wall": ended - began,
        "encoding": ended - encoding,
        "worker_cpu": sum(watch.cpu.values()) - sum(watch.started.values()),
        "start_cpu": sum(watch.started.values()),
        "worker_peak": max(watch.peak.values()),
        "driver_peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def sentence(row: dict[str, float]) -> str:
    size, seconds = row["bytes"], row["encoding"]
    return (
        f"{row['documents']:,} documents, {size / 1e6:.1f} MB; command {row['wall']:.1f} s, of it encoding "
        f"{seconds:.1f} s ({row['documents'] / seconds:,.0f} documents/s, {size / seconds / 1e6:.2f} MB/s); workers' "
        f"start {row['start_cpu']:.2f} CPU-s; peak memory {row['worker_peak'] / 1e6:.0f} MB a worker, "
        f"{row['driver_peak'] / 1e6:.0f} MB the driver; workers' encoding {row['worker_cpu']:.2f} CPU-s, "
        f"{size / row['worker_cpu'] / 1e6:.2f} MB per CPU-s"
    )


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "datasets" / "bench").iterdir())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", help="documents; default: the embedded text, varied")
    parser.add_argument("--megabytes", type=float, default=48.0, help="of the varied text")
    parser.add_argument("--tokenizer", type=Path, help="default: the embedded corpus's, 1,024 pieces")
    args = parser.parse_args()
    tokenizer = args.tokenizer or embedded_data()[0] / "tokenizer.model"
    with tempfile.TemporaryDirectory(prefix="export-") as scratch:
        folder = Path(scratch)
        corpus = args.corpus or [varied(folder / "varied.jsonl", args.megabytes)]
        size, cpu = one_by_one(corpus, tokenizer)
        alone = size / cpu
        print(f"one by one, one process: {size / 1e6:.1f} MB in {cpu:.2f} CPU-s, {alone / 1e6:.2f} MB per CPU-s")
        ratios, peaks = [], []
        for workers in (1, 2):
            row = export(corpus, tokenizer, folder / str(workers), workers)
            rate = row["bytes"] / row["worker_cpu"]
            ratios.append(rate / alone)
            peaks.append(row["worker_peak"])
            print(f"{workers} worker{'s' if workers > 1 else ''}: {sentence(row)}, {ratios[-1]:.2f} of one by one")
        equal = content(folder / "1") == content(folder / "2")
    claims = {
        "one and two workers give equal bytes": equal,
        f"bytes per CPU-second at least {CLAIMED_RATIO} times one by one": min(ratios) >= CLAIMED_RATIO,
        "a worker stays under 1 GB": max(peaks) < LIMIT_BYTES,
    }
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    return 0 if all(claims.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
