"""Seen by containers in place of nvidia-ml-py: healthy GPUs, as many and of the names that the plane wrote down.

Answers what a monitor asks of a healthy SXM GPU; to every other question of NVML it says, as drivers do, not supported.
"""

import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

NVML_CLOCK_SM = 1
NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
NVML_VOLATILE_ECC = 0
NVML_NVLINK_MAX_LINKS = 18
GIB = 1 << 30


class NVMLError(Exception):
    pass


def names() -> list[str]:
    return list(json.loads(Path("/__modal/gpus.json").read_text()))


def uuid(index: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def nvmlInit() -> None:
    if not names():
        raise NVMLError("Driver Not Loaded")


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return "loopback"


def nvmlDeviceGetCount() -> int:
    return len(names())


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    return index


def nvmlDeviceGetHandleByUUID(wanted: str) -> int:
    for index in range(len(names())):
        if uuid(index) == wanted:
            return index
    raise NVMLError("Not Found")


def nvmlDeviceGetName(handle: int) -> str:
    return names()[handle]


def nvmlDeviceGetUUID(handle: int) -> str:
    return uuid(handle)


def nvmlDeviceGetMemoryInfo(_handle: int) -> types.SimpleNamespace:
    return types.SimpleNamespace(total=80 * GIB, used=0, free=80 * GIB)


def nvmlDeviceGetClockInfo(_handle: int, _kind: int) -> int:
    return 1980


def nvmlDeviceGetMaxClockInfo(_handle: int, _kind: int) -> int:
    return 1980


def nvmlDeviceGetPowerManagementLimit(_handle: int) -> int:
    return 700_000


def nvmlDeviceGetEccMode(_handle: int) -> list[int]:
    return [1, 1]


def nvmlDeviceGetTotalEccErrors(_handle: int, _kind: int, _counter: int) -> int:
    return 0


def nvmlDeviceGetRemappedRows(_handle: int) -> tuple[int, int, int, int]:
    return (0, 0, 0, 0)


def nvmlDeviceGetCurrentClocksThrottleReasons(_handle: int) -> int:
    return 0


def nvmlDeviceGetNvLinkState(_handle: int, _link: int) -> int:
    return 1


def nvmlDeviceGetComputeRunningProcesses(_handle: int) -> list[object]:
    return []


def nvmlDeviceIsMigDeviceHandle(_handle: int) -> int:
    return 0


def nvmlDeviceGetMigMode(_handle: int) -> list[int]:
    return [0, 0]


def __getattr__(name: str) -> Callable[..., Any]:
    if not name.startswith("nvml"):
        raise AttributeError(name)

    def refuse(*_arguments: object) -> None:
        raise NVMLError(f"{name}: Not Supported")

    return refuse
