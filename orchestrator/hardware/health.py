"""The state of a machine's GPUs, as NVML tells it: links, memory errors, who else works on them, what slows them down.

What a driver does not tell is None, and stays unknown: containers and virtual machines hide some of it, MIG instances
and other vendors most of it.
"""

import statistics
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from orchestrator.hardware.gpus import Gpu, Library, told

# Bits of the throttle reasons in which a card is in trouble. Idleness, its power limit and clocks that somebody set are
# no trouble by themselves: the clock under load tells.
REASONS: Mapping[int, str] = {
    0x08: "hardware slowdown",
    0x20: "too hot (software slowdown)",
    0x40: "too hot (hardware slowdown)",
    0x80: "power brake",
}


@dataclass(frozen=True, kw_only=True)
class Health:
    """Of one GPU. What is not told is None."""

    mig: bool = False  # one instance of a GPU that is cut into several
    nvlinks: int | None = None  # active
    ecc: bool | None = None  # whether memory errors are corrected
    ecc_errors: int | None = None  # that could not be corrected, since the driver was loaded
    rows: str | None = None  # of bad memory: "pending" a restart, "failed" to be replaced, "" neither
    slowed: str | None = None  # by what, of REASONS; "" by nothing
    processes: tuple[int, ...] | None = None  # that compute on it
    used_bytes: int | None = None

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


def healths(gpus: Sequence[Gpu], nvml: Library | None) -> list[Health]:
    """Of each GPU, by its UUID; `nvml` is open, or None where there is none."""
    return [Health() if nvml is None else _health(gpu, nvml) for gpu in gpus]


def _health(gpu: Gpu, nvml: Library) -> Health:
    handle = told(nvml, nvml.nvmlDeviceGetHandleByUUID, gpu.uuid) if gpu.uuid else None
    if handle is None:
        return Health()
    mode = told(nvml, nvml.nvmlDeviceGetEccMode, handle)
    rows = told(nvml, nvml.nvmlDeviceGetRemappedRows, handle)
    memory = told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    running = told(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    uncorrected = (nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC)
    return Health(
        mig=bool(told(nvml, nvml.nvmlDeviceIsMigDeviceHandle, handle)),
        nvlinks=_links(nvml, handle),
        ecc=None if mode is None else bool(mode[0]),
        ecc_errors=told(nvml, nvml.nvmlDeviceGetTotalEccErrors, handle, *uncorrected),
        rows=None if rows is None else "failed" if rows[3] else "pending" if rows[2] else "",
        slowed=slowed(nvml, handle),
        processes=None if running is None else tuple(sorted(one.pid for one in running)),
        used_bytes=None if memory is None else int(memory.used),
    )


def _links(nvml: Library, handle: typing.Any) -> int | None:
    """Active links. A GPU without any answers none of the questions; so does one whose driver does not tell."""
    states = [told(nvml, nvml.nvmlDeviceGetNvLinkState, handle, link) for link in range(_most_links(nvml))]
    known = [state for state in states if state is not None]
    return sum(map(bool, known)) if known else None


def _most_links(nvml: Library) -> int:
    return int(getattr(nvml, "NVML_NVLINK_MAX_LINKS", 18))


def slowed(nvml: Library, handle: typing.Any) -> str | None:
    bits = told(nvml, nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
    return None if bits is None else ", ".join(name for bit, name in REASONS.items() if bits & bit)


class Watch:
    """Looks at clocks while GPUs work: `look` again and again, then `clocks` and `slowed` of each."""

    def __init__(self, gpus: Sequence[Gpu], nvml: Library | None) -> None:
        self.nvml = nvml
        self.handles: list[typing.Any] = [None for _ in gpus]
        if nvml is not None:
            by_uuid = nvml.nvmlDeviceGetHandleByUUID
            self.handles = [told(nvml, by_uuid, gpu.uuid) if gpu.uuid else None for gpu in gpus]
        self.seen: list[list[int]] = [[] for _ in self.handles]
        self.slow: list[list[str]] = [[] for _ in self.handles]

    def look(self) -> None:
        for number, handle in enumerate(self.handles):
            if handle is None or self.nvml is None:
                continue
            clock = told(self.nvml, self.nvml.nvmlDeviceGetClockInfo, handle, self.nvml.NVML_CLOCK_SM)
            if clock is not None:
                self.seen[number].append(int(clock))
            if (why := slowed(self.nvml, handle)) is not None:
                self.slow[number].append(why)

    def clocks(self) -> list[int | None]:
        """The median of each GPU, in MHz."""
        return [round(statistics.median(seen)) if seen else None for seen in self.seen]

    def slowed(self) -> list[str]:
        """Of each GPU what slowed it down in more than half of the looks; empty where nothing did."""
        return [", ".join(name for name in REASONS.values() if _mostly(name, looks)) for looks in self.slow]


def _mostly(name: str, looks: Sequence[str]) -> bool:
    return 2 * sum(name in look for look in looks) > len(looks)
