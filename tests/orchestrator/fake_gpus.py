"""Machines with GPUs that are not there: an object that answers as nvidia-ml-py does, and a rocm-smi on PATH."""

import json
import os
import types


class NVMLError(Exception):
    """What every question can end in."""


def fake_nvml(names, mig=(), silent=(), odd=None, clock=1410):
    """A module with these GPUs. `mig`: indices cut in two instances; `silent`: functions that are not supported;
    `odd`: index -> what that GPU tells otherwise than a sound one, by the names of `told` below."""
    odd = odd or {}

    def told(what, sound):
        """A function of a handle; the GPU's own answer, if it has one."""
        return lambda handle, *rest: odd.get(handle[0], {}).get(what, sound)

    def memory(handle):
        return types.SimpleNamespace(total=80 * 1024**3, used=odd.get(handle[0], {}).get("used", 600 << 20), free=2)

    def link(handle, number):
        if number >= 18:
            raise NVMLError("no such link")
        return int(number < odd.get(handle[0], {}).get("links", 18))

    def by_uuid(uuid):
        return next((index, None) for index in range(len(names)) if uuid == f"GPU-{'abcdefgh'[index]}0")

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
        "nvmlDeviceGetHandleByUUID": by_uuid,
        "nvmlDeviceIsMigDeviceHandle": lambda handle: int(handle[1] is not None),
        "nvmlDeviceGetClockInfo": told("clock", clock),
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 1980,
        "nvmlDeviceGetPowerManagementLimit": lambda handle: 700_000,
        "nvmlDeviceGetNvLinkState": link,
        "nvmlDeviceGetEccMode": told("ecc_mode", [1, 1]),
        "nvmlDeviceGetTotalEccErrors": told("ecc_errors", 0),
        "nvmlDeviceGetRemappedRows": told("rows", (0, 0, 0, 0)),
        "nvmlDeviceGetCurrentClocksThrottleReasons": told("reasons", 0x4),  # its power limit: no fault
        "nvmlDeviceGetComputeRunningProcesses": told("processes", []),
    }

    def refuse(*arguments):
        raise NVMLError("not supported")

    constants = {"NVML_CLOCK_SM": 1, "NVML_MEMORY_ERROR_TYPE_UNCORRECTED": 1, "NVML_VOLATILE_ECC": 0}
    return types.SimpleNamespace(NVMLError=NVMLError, **constants, **(answers | dict.fromkeys(silent, refuse)))


def process(pid, gigabytes=1):
    """As NVML tells of a program on a GPU."""
    return types.SimpleNamespace(pid=pid, usedGpuMemory=gigabytes << 30)


def install_nvml(monkeypatch, module):
    """From now on this module is nvidia-ml-py, None: it is not installed; no variable hides a GPU."""
    monkeypatch.setattr("orchestrator.hardware.gpus.nvml_library", lambda: module)
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
