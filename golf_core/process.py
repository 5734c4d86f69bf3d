"""Where this process runs: its rank, its device, its dtype; and how a group of processes begins and ends."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist

from golf_core.hardware import cpu_dtype

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@dataclass(frozen=True)
class Place:
    rank: int
    world: int
    device: torch.device
    dtype: torch.dtype  # of activations

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def dtype_name(self) -> str:
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"


@contextlib.contextmanager
def joined_group(dtype_name: str | None) -> Iterator[Place]:
    """The process group that torchrun describes, or one process alone; left again at the end."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
    name = dtype_name or ("bf16" if cuda else cpu_dtype())
    place = Place(rank, world, device, torch.bfloat16 if name == "bf16" else torch.float32)
    if not cuda:
        keep_freed_memory()
    if cuda:
        torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    try:
        yield place
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def keep_freed_memory() -> None:
    """Let glibc keep what activations free instead of giving it back and faulting it in again every step:
    about a tenth of a small model's step on a CPU. Elsewhere than on glibc this does nothing."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_TRIM_THRESHOLD, 512 << 20)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)


def barrier() -> None:
    if dist.is_initialized():
        dist.barrier()


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that this process has used: on the GPU, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
