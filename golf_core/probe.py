"""A short look at how fast the processors of this machine are: matrix products, memory, the links between them.

    python -m torch.distributed.run --standalone --nproc_per_node=8 -m golf_core.probe

Every process works at the same time on a device of its own, since what is looked for shows under the load of all of
them. Rank 0 prints the beginning and the end of each part, so that whoever started it can look at clocks meanwhile, and
last one line of JSON. Nothing here judges: the thresholds are a policy's. On a CPU the same runs with small sizes.
"""

import argparse
import json
import statistics
import sys
import time
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from golf_core.process import Place, joined_group

SCHEMA_VERSION = 1
SECONDS = 3.0  # of measuring, each part
WARM_UP_CALLS = 3
ROUNDS = 10  # times the clock is read in a part; the median decides
PART = "probe:"  # how a line about a part begins


class ProbeError(Exception):
    """The processors gave no result, or a wrong one."""


@dataclass(frozen=True)
class Sizes:
    side: int  # of the square matrices
    copy_bytes: int
    sum_bytes: int  # of what all processes add up


GPU = Sizes(side=8192, copy_bytes=1 << 30, sum_bytes=512 << 20)
CPU = Sizes(side=256, copy_bytes=8 << 20, sum_bytes=1 << 20)


def measure(place: Place, call: Callable[[], object], seconds: float) -> float:
    """Seconds that one call takes, in the median of the rounds; all processes call equally often."""
    for _ in range(WARM_UP_CALLS):
        call()
    first = _elapsed(place, call, 1)
    calls = max(1, int(_largest(place, seconds / ROUNDS / max(first, 1e-9))))
    return statistics.median(_elapsed(place, call, calls) / calls for _ in range(ROUNDS))


def _elapsed(place: Place, call: Callable[[], object], calls: int) -> float:
    _synchronize(place)
    began = time.perf_counter()
    for _ in range(calls):
        call()
    _synchronize(place)
    return time.perf_counter() - began


def _synchronize(place: Place) -> None:
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)


def _largest(place: Place, value: float) -> float:
    """Of all processes."""
    told = torch.tensor(value, dtype=torch.float64, device=place.device)
    if place.world > 1:
        dist.all_reduce(told, op=dist.ReduceOp.MAX)
    return float(told)


def of_all(place: Place, value: float) -> list[float]:
    """The value of every process, in the order of ranks."""
    told = torch.tensor([value], dtype=torch.float64, device=place.device)
    if place.world == 1:
        return told.tolist()
    found = [torch.empty_like(told) for _ in range(place.world)]
    dist.all_gather(found, told)
    return [float(one) for one in found]


def matmul_tflops(place: Place, sizes: Sizes, seconds: float) -> float:
    """Of square matrices of normal numbers: how much power a product draws depends on what is in it."""
    torch.manual_seed(1)
    shape = (sizes.side, sizes.side)
    kind: dict[str, typing.Any] = {"dtype": place.dtype, "device": place.device}
    a, b, out = torch.randn(shape, **kind), torch.randn(shape, **kind), torch.empty(shape, **kind)
    taken = measure(place, lambda: torch.mm(a, b, out=out), seconds)
    twice = torch.mm(2 * torch.eye(sizes.side, **kind), b)
    if not torch.equal(twice, 2 * b):
        raise ProbeError(f"rank {place.rank}: a product of matrices is wrong")
    return 2.0 * sizes.side**3 / taken / 1e12


def copy_gb_s(place: Place, sizes: Sizes, seconds: float) -> float:
    """Bytes read and bytes written, of a copy within the device's memory."""
    source = torch.ones(sizes.copy_bytes, dtype=torch.uint8, device=place.device)
    target = torch.empty_like(source)
    return 2.0 * sizes.copy_bytes / measure(place, lambda: target.copy_(source), seconds) / 1e9


def all_reduce_gb_s(place: Place, sizes: Sizes, seconds: float) -> float | None:
    """Bus bandwidth as nccl-tests define it: what each link has to carry. None where there is one process."""
    if place.world == 1:
        return None
    ranks = torch.full((1024,), float(place.rank + 1), device=place.device)
    dist.all_reduce(ranks)
    if not torch.all(ranks == place.world * (place.world + 1) / 2):
        raise ProbeError(f"rank {place.rank}: a sum over all processes is wrong")
    block = torch.zeros(sizes.sum_bytes // place.dtype.itemsize, dtype=place.dtype, device=place.device)
    taken = measure(place, lambda: dist.all_reduce(block), seconds)
    return 2.0 * (place.world - 1) / place.world * sizes.sum_bytes / taken / 1e9


def probe(place: Place, sizes: Sizes, seconds: float) -> dict[str, typing.Any]:
    """What every process finds, in the order of ranks."""
    began = time.perf_counter()
    found: dict[str, typing.Any] = {}
    for part in (matmul_tflops, copy_gb_s, all_reduce_gb_s):
        _say(place, f"begin {part.__name__}")
        value = part(place, sizes, seconds)
        found[part.__name__] = None if value is None else of_all(place, value)
        _say(place, f"end {part.__name__}")
    return {
        "schema_version": SCHEMA_VERSION,
        "device": place.device.type,
        "name": torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else "CPU",
        "world": place.world,
        "dtype": place.dtype_name,
        **found,
        "seconds": time.perf_counter() - began,
        "torch": torch.__version__,
    }


def _say(place: Place, text: str) -> None:
    if place.first:
        print(f"{PART}{text}", flush=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m golf_core.probe", description="How fast are these processors?")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="what must be there; default: the GPUs if there are")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of measuring, each of three parts")
    asked = parser.parse_args(arguments)
    if asked.device == "cuda" and not torch.cuda.is_available():
        raise ProbeError(f"torch {torch.__version__} sees no GPU here: a build for CPUs, or no driver")
    with joined_group(None) as place:
        found = probe(place, GPU if place.device.type == "cuda" else CPU, asked.seconds)
        if place.first:
            print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
