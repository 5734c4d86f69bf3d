"""Does training wait for data? One rank's `next()` beside what an H100 eats, in the same run as the usual loader.

    python benchmarks/load_data.py [--shards 4] [--steps 140] [--folder DIR] [--device cpu]

Shape of the challenge: 786,432 tokens a step, sequences of 2,048, 8 ranks, so that a rank takes 98,304 tokens a step;
an H100 trains on 1.2 million tokens a second, so that a step lasts 82 ms, and eight eat 9.6 million a second. Shards
of 100M random tokens below 1,024, as the challenge's are long. Each loader runs in a fresh process, once as fast as it
can on a warm page cache (tokens a CPU-second), and once at the H100's pace, on a warm and on a cold one: then the step
is slept through, and what counts is how long `next()` holds it up. The peer loads as the challenge's scripts do: all of
a shard by np.fromfile whenever the last is used up, in the thread that trains.
"""

import argparse
import ctypes
import mmap
import multiprocessing
import os
import statistics
import tempfile
import time
import typing
from pathlib import Path

import numpy as np
import torch

from golf_core.data.coprime_loader import CoprimeLoader
from golf_core.data.loader import TokenStream, TrainLoader
from golf_core.data.shards import SHARD_HEADER_BYTES, SHARD_MAGIC, SHARD_VERSION

BATCH, SEQ, WORLD = 786_432, 2048, 8
H100_TOKENS_A_SECOND = 1_200_000
RANK_TOKENS = BATCH // WORLD
STEP_SECONDS = RANK_TOKENS / H100_TOKENS_A_SECOND
SHARD_TOKENS = 100_000_000
VOCAB = 1024


class WholeShards:
    """The peer: a shard is read whole when the last one is used up; a rank slices its span of every step from it."""

    def __init__(self, folder: Path, rank: int, device: torch.device) -> None:
        self.files, self.rank, self.device = sorted(folder.glob("*_train_*.bin")), rank, device
        self.file = -1
        self.open_next()

    def open_next(self) -> None:
        self.file, self.position = (self.file + 1) % len(self.files), 0
        path = self.files[self.file]
        count = int(np.fromfile(path, dtype="<i4", count=256)[2])
        self.tokens = torch.from_numpy(np.fromfile(path, dtype="<u2", count=count, offset=SHARD_HEADER_BYTES))

    def take(self, count: int) -> torch.Tensor:
        parts = []
        while count:
            if self.position == len(self.tokens):
                self.open_next()
            parts.append(self.tokens[self.position : self.position + count])
            count -= len(parts[-1])
            self.position += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def next(self) -> tuple[torch.Tensor, torch.Tensor]:
        span = RANK_TOKENS + 1
        mine = self.take(WORLD * span)[self.rank * span : (self.rank + 1) * span].to(torch.int64)
        x, y = mine[:-1].view(-1, SEQ), mine[1:].view(-1, SEQ)
        return x.to(self.device, non_blocking=True), y.to(self.device, non_blocking=True)


def make_loader(kind: str, folder: Path, rank: int, device: torch.device) -> typing.Any:
    if kind == "whole shards":
        return WholeShards(folder, rank, device)
    loader = {"stream": TrainLoader, "coprime": CoprimeLoader}[kind]
    shape = {"batch_tokens": BATCH, "micro_batches": WORLD, "seq_len": SEQ, "rank": rank, "world": WORLD}
    return loader(TokenStream(folder, "train", VOCAB), **shape, device=device, seed=1337)


KINDS = ("stream", "coprime", "whole shards")


def measure(kind: str, folder: Path, rank: int, steps: int, paced: bool, device: str, answers: typing.Any) -> None:
    """Steps of one rank, in a process of its own: seconds that `next()` took of each, and CPU seconds of all."""
    torch.set_num_threads(1)
    loader = make_loader(kind, folder, rank, torch.device(device))
    loader.next()  # training begins with a warm-up in every program
    waits, begin = [], time.process_time()
    for _ in range(steps):
        before = time.perf_counter()
        loader.next()
        waits.append(time.perf_counter() - before)
        if paced:
            time.sleep(STEP_SECONDS)
    answers.put((rank, waits, time.process_time() - begin))


def run_ranks(kind: str, folder: Path, ranks: int, steps: int, paced: bool, device: str) -> list[tuple]:
    """(rank, waits, CPU seconds) of ranks that run at once."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = [(kind, folder, rank, steps, paced, device, answers) for rank in range(ranks)]
    processes = [context.Process(target=measure, args=one) for one in arguments]
    for process in processes:
        process.start()
    found = sorted(answers.get(timeout=600) for _ in processes)
    for process in processes:
        process.join()
    return found


def make_shards(folder: Path, count: int) -> None:
    draws = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"random_train_{number:06d}.bin"
        if path.exists() and path.stat().st_size == SHARD_HEADER_BYTES + 2 * SHARD_TOKENS:
            continue
        with path.open("wb") as file:
            head = np.zeros(256, dtype="<i4")
            head[:3] = SHARD_MAGIC, SHARD_VERSION, SHARD_TOKENS
            file.write(head.tobytes())
            for _ in range(20):
                file.write(draws.integers(0, VOCAB, SHARD_TOKENS // 20, dtype=np.uint16).tobytes())
            file.flush()
            os.fsync(file.fileno())


def resident(folder: Path) -> float:
    """Share of the shards that is in the page cache."""
    libc, pages, there = ctypes.CDLL(None, use_errno=True), 0, 0
    for path in folder.glob("*.bin"):
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            whole = np.frombuffer(mapped, dtype=np.uint8)
            seen = np.zeros(-(-len(whole) // mmap.PAGESIZE), dtype=np.uint8)
            libc.mincore(
                ctypes.c_void_p(whole.ctypes.data), ctypes.c_size_t(len(whole)), ctypes.c_void_p(seen.ctypes.data)
            )
            pages, there = pages + len(seen), there + int((seen & 1).sum())
            del whole
    return there / pages


def cool(folder: Path) -> None:
    """Ask the system to forget the shards."""
    for path in folder.glob("*.bin"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(folder: Path) -> None:
    for path in folder.glob("*.bin"):
        with path.open("rb") as file:
            while file.read(1 << 24):
                pass


def line(name: str, waits: list[float], cpu: float) -> str:
    ordered = sorted(waits)
    shown = [statistics.median(waits), ordered[int(0.99 * (len(waits) - 1))], ordered[-1]]
    times = " ".join(f"{1000 * one:8.2f} ({one / STEP_SECONDS:6.1%})" for one in shown)
    lost = sum(waits) / (len(waits) * STEP_SECONDS)
    return f"{name:34} {len(waits) * RANK_TOKENS / cpu / 1e6:9.1f} {times} {lost:8.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=4, help="of 200 MB each")
    parser.add_argument("--steps", type=int, default=140, help="a shard lasts 127")
    parser.add_argument("--folder", type=Path, help="keep the shards here; default: a temporary folder")
    parser.add_argument("--device", default="cpu", help="where the batches go: cpu or cuda")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"which loaders, by commas: {', '.join(KINDS)}")
    arguments = parser.parse_args()
    if strange := [kind for kind in arguments.kinds.split(",") if kind not in KINDS]:
        parser.error(f"--kinds {strange[0]!r}: there are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        folder = arguments.folder or Path(scratch)
        make_shards(folder, arguments.shards)
        print(
            f"{arguments.shards} shards of {SHARD_TOKENS:,} tokens; an H100 takes {1000 * STEP_SECONDS:.1f} ms a step"
        )
        print(f"{'':34} {'M tokens':>9} {'next() in ms, and its share of a step':^53} {'all of':>8}")
        print(f"{'loader':34} {'/ CPU-s':>9} {'median':>17} {'p99':>17} {'max':>17} {'waiting':>8}")
        for kind in arguments.kinds.split(","):
            for ranks, paced, cold in ((1, False, False), (1, True, False), (1, True, True), (2, True, True)):
                (cool if cold else warm)(folder)
                share = resident(folder)
                if cold and share > 0.5:
                    print(f"{kind}: the file system kept {share:.0%} of the shards in memory: nothing cold to measure")
                    continue
                what = f"{'cold' if cold else 'warm'}, {'H100 pace' if paced else 'unpaced'}"
                for rank, waits, cpu in run_ranks(kind, folder, ranks, arguments.steps, paced, arguments.device):
                    name = f"{kind}, {what}" + (f", rank {rank} of 2 here" if ranks > 1 else "")
                    print(line(name, waits, cpu), flush=True)


if __name__ == "__main__":
    main()
