"""Machines with GPUs that are not there: an object that answers as nvidia-ml-py does, and a rocm-smi on PATH."""

import json
import os
import types


class NVMLError(Exception):
    """What every question can end in."""


def fake_nvml(names, mig=(), silent=()):
    """A module with these GPUs. `mig`: indices cut in two instances; `silent`: functions that are not supported."""

    def memory(handle):
        return types.SimpleNamespace(total=80 * 1024**3, used=1, free=2)

    def instance(handle, part):
        if part >= 2:
            raise NVMLError("no such instance")
        return (handle[0], part)

    def name(handle):
        return names[handle[0]] + ("" if handle[1] is None else " MIG 1g.10gb")

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: b"570.86.15",
        "nvmlDeviceGetCount": lambda: len(names),
        "nvmlDeviceGetHandleByIndex": lambda index: (index, None),
        "nvmlDeviceGetName": name,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{'abcdefgh'[handle[0]]}0",
        "nvmlDeviceGetMemoryInfo": memory,
        "nvmlDeviceGetMigMode": lambda handle: (int(handle[0] in mig), 0),
        "nvmlDeviceGetMaxMigDeviceCount": lambda handle: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": instance,
        "nvmlDeviceGetClockInfo": lambda handle, kind: 1410,
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 1980,
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 700_000,
    }

    def refuse(*arguments):
        raise NVMLError("not supported")

    return types.SimpleNamespace(NVMLError=NVMLError, NVML_CLOCK_SM=1, **(answers | dict.fromkeys(silent, refuse)))


def install_nvml(monkeypatch, module):
    """From now on `import pynvml` gives this module; no variable hides a GPU."""
    monkeypatch.setitem(__import__("sys").modules, "pynvml", module)
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)


def install_rocm_smi(monkeypatch, folder, names, before=""):
    """A rocm-smi that prints `before`, then its JSON."""
    cards = {
        f"card{index}": {"Card Series": name, "VRAM Total Memory (B)": "206141652992", "Unique ID": f"0x{index}"}
        for index, name in enumerate(names)
    }
    answer = json.dumps(cards | {"system": {"Driver version": "6.7.0"}})
    tool = folder / "rocm-smi"
    tool.write_text(f"#!/bin/sh\ncat <<'END'\n{before}{answer}\nEND\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
