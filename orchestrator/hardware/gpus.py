"""The GPUs of this machine and what the driver says of them: NVML for NVIDIA, else rocm-smi for AMD, else none.

NVML is read through nvidia-ml-py, which needs no nvidia-smi on PATH and no CUDA. Neither source heeds the variables
that hide GPUs from a program; `visible` does.
"""

import contextlib
import functools
import importlib.util
import itertools
import json
import site
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.errors import UsageError

ROCM = ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showdriverversion", "--showuniqueid")
# Which variable hides GPUs, the stronger first.
HIDING = {"nvml": ("CUDA_VISIBLE_DEVICES",), "rocm-smi": ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")}
TIMEOUT_SECONDS = 20
NVML = "nvml_as_installed"  # the name that its module has here


Library = typing.Any  # nvidia-ml-py, a module without types


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


@functools.cache
def nvml_library() -> Library | None:
    """nvidia-ml-py as it is installed for this interpreter, None where it is not. Not what a plain import would give: a
    path in the environment could put another module of that name in its place, and GPUs that are not there."""
    for folder in site.getsitepackages():
        path = Path(folder) / "pynvml.py"
        spec = importlib.util.spec_from_file_location(NVML, path) if path.is_file() else None
        if spec is not None and spec.loader is not None:
            module = sys.modules[NVML] = importlib.util.module_from_spec(spec)  # it looks itself up by its name
            spec.loader.exec_module(module)
            return module
    return None


def installed_gpus(library: Callable[[], Library | None] | None = None) -> list[Gpu]:
    """Every GPU of the machine, hidden ones too; empty where there is none."""
    return _from_nvml((library or nvml_library)()) or _from_rocm_smi()


def silence(library: Callable[[], Library | None] | None = None) -> str:
    """Why no GPU is named here."""
    if (library or nvml_library)() is None:
        return f"nvidia-ml-py is not installed for {sys.executable}, and rocm-smi names none"
    return "NVML and rocm-smi name none"


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
    if wanted.isdecimal() and int(wanted) < len(gpus):
        return gpus[int(wanted)]
    found = [gpu for gpu in gpus if gpu.uuid is not None and gpu.uuid.startswith(wanted)]
    if len(found) != 1:
        known = ", ".join(gpu.uuid or "?" for gpu in gpus)
        raise UsageError(f"{place}: {wanted!r} is none of the {len(gpus)} GPUs here, numbered from 0 (UUIDs: {known})")
    return found[0]


@contextlib.contextmanager
def opened(nvml: Library | None) -> Iterator[Library | None]:
    """The library, ready to be asked; None where there is none, or no driver that it could ask."""
    if nvml is None:
        yield None
        return
    try:
        nvml.nvmlInit()
    except Exception:  # no driver, or one that does not answer: each says so in an error of its own
        yield None
        return
    try:
        yield nvml
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _from_nvml(library: Library | None) -> list[Gpu]:
    with opened(library) as nvml:
        if nvml is None:
            return []
        try:
            driver = told(nvml, nvml.nvmlSystemGetDriverVersion)
            return [_nvml_gpu(nvml, handle, driver) for handle in _nvml_handles(nvml)]
        except nvml.NVMLError:
            return []


def _nvml_handles(nvml: Library) -> Iterator[typing.Any]:
    """Whole GPUs; of one that is cut into MIG instances, the instances: a program never sees the whole."""
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        mode = told(nvml, nvml.nvmlDeviceGetMigMode, handle)
        if mode is None or not mode[0]:
            yield handle
            continue
        for part in range(told(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
            if (instance := told(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, part)) is not None:
                yield instance


def _nvml_gpu(nvml: Library, handle: typing.Any, driver: typing.Any) -> Gpu:
    memory = told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    limit = told(nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle)
    return Gpu(
        name=_text(nvml.nvmlDeviceGetName(handle)) or "NVIDIA GPU",
        source="nvml",
        uuid=_text(told(nvml, nvml.nvmlDeviceGetUUID, handle)),
        memory_bytes=None if memory is None else int(memory.total),
        driver=_text(driver),
        clock_mhz=told(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_SM),
        max_clock_mhz=told(nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_SM),
        power_limit_watts=None if limit is None else limit / 1000,
    )


def told(nvml: Library, ask: Callable[..., typing.Any], *arguments: typing.Any) -> typing.Any:
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
    cards = {key: _lower(value) for key, value in answer.items() if key.startswith("card") and key[4:].isdecimal()}
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
        memory_bytes=int(memory) if memory.isdecimal() else None,
        driver=system.get("driver version"),
    )
