"""The GPUs of this machine and what the driver says of them: NVML for NVIDIA, else rocm-smi for AMD, else none.

NVML is read through nvidia-ml-py, which needs no nvidia-smi on PATH and no CUDA. Neither source heeds the variables
that hide GPUs from a program; `visible` does.
"""

import contextlib
import importlib
import itertools
import json
import subprocess
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from orchestrator.errors import UsageError

ROCM = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--showuniqueid")
# Which variable hides GPUs, the stronger first.
HIDING = {"nvml": ("CUDA_VISIBLE_DEVICES",), "rocm-smi": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")}
TIMEOUT_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """What is not told is None. Clocks are of the streaming multiprocessors."""

    name: str
    source: str  # nvml or rocm-smi
    uuid: str | None = None
    memory_bytes: int | None = None
    driver: str | None = None
    clock_mhz: int | None = None
    max_clock_mhz: int | None = None
    power_limit_watts: float | None = None

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


def installed_gpus() -> list[Gpu]:
    """Every GPU of the machine, hidden ones too; empty where there is none."""
    return _from_nvml() or _from_rocm_smi()


def visible(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """Those that a program started with this environment sees. Raises UsageError for a number that is none of them."""
    variables = HIDING[gpus[0].source] if gpus else ()
    variable = next((name for name in variables if name in environ), None)
    if variable is None:
        return list(gpus)
    shown = environ[variable]
    wanted = list(itertools.takewhile(lambda one: one not in ("", "-1"), map(str.strip, shown.split(","))))
    return [_named(gpus, one, f"{variable}={shown!r}") for one in wanted]


def _named(gpus: Sequence[Gpu], wanted: str, place: str) -> Gpu:
    """The GPU of that number, or of the UUID that begins so."""
    if wanted.isdigit() and int(wanted) < len(gpus):
        return gpus[int(wanted)]
    found = [gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(wanted)]
    if len(found) != 1:
        known = ", ".join(gpu.uuid or "?" for gpu in gpus)
        raise UsageError(f"{place}: {wanted!r} is none of the {len(gpus)} GPUs here, numbered from 0 (UUIDs: {known})")
    return found[0]


def _from_nvml() -> list[Gpu]:
    try:
        nvml: typing.Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # no library, no driver, or one that does not answer: each says so in an error of its own
        return []
    try:
        driver = _told(nvml, nvml.nvmlSystemGetDriverVersion)
        return [_nvml_gpu(nvml, handle, driver) for handle in _nvml_handles(nvml)]
    except nvml.NVMLError:
        return []
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _nvml_handles(nvml: typing.Any) -> Iterator[typing.Any]:
    """Whole GPUs; of one that is cut into MIG instances, the instances: a program never sees the whole."""
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        mode = _told(nvml, nvml.nvmlDeviceGetMigMode, handle)
        if mode is None or not mode[0]:
            yield handle
            continue
        for part in range(_told(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            if (instance := _told(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, part)) is not None:
                yield instance


def _nvml_gpu(nvml: typing.Any, handle: typing.Any, driver: typing.Any) -> Gpu:
    memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    limit = _told(nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)) or "NVIDIA GPU",
        source="nvml",
        uuid=_text(_told(nvml, nvml.nvmlDeviceGetUUID, handle)),
        memory_bytes=None if memory is None else int(memory.total),
        driver=_text(driver),
        clock_mhz=_told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        max_clock_mhz=_told(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
        power_limit_watts=None if limit is None else limit / 1000,
    )


def _told(nvml: typing.Any, ask: Callable[..., typing.Any], *arguments: typing.Any) -> typing.Any:
    """An answer, or None where this GPU or driver does not give it."""
    try:
        return ask(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: typing.Any) -> str | None:
    if isinstance(value, bytes):  # how older versions of the library answer
        value = value.decode(errors="replace")
    return value if isinstance(value, str) and value else None


def _from_rocm_smi() -> list[Gpu]:
    try:
        said = subprocess.run([*ROCM, "--json"], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        start = said.stdout.index("{")  # warnings may come first
        answer = json.JSONDecoder().raw_decode(said.stdout, start)[0]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    system = _lower(answer.get("system"))
    cards = {key: _lower(value) for key, value in answer.items() if key.startswith("card") and key[4:].isdigit()}
    return [_rocm_gpu(cards[key], system) for key in sorted(cards, key=lambda key: int(key[4:]))]


def _lower(value: typing.Any) -> dict[str, str]:
    """Keys in small letters: their spelling has changed between versions."""
    return {str(key).lower(): str(one) for key, one in value.items()} if isinstance(value, dict) else {}


def _rocm_gpu(card: Mapping[str, str], system: Mapping[str, str]) -> Gpu:
    memory = card.get("vram total memory (b)", "")
    return Gpu(
        name=card.get("card series") or card.get("card model") or "AMD GPU",
        source="rocm-smi",
        uuid=card.get("unique id"),
        memory_bytes=int(memory) if memory.isdigit() else None,
        driver=system.get("driver version"),
    )
