"""The environment of a run: what of it bundle or script see, and what of the machine is written down. No secrets."""

import contextlib
import os
import platform
import re
import typing
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path

from orchestrator.checkout import ROOT
from orchestrator.errors import UsageError
from orchestrator.hardware.gpus import Library, installed_gpus, visible

# A name that says that its value is a secret. Matched on whole words of the name, so that e.g. MONKEY stays.
SECRET = re.compile(
    r"(?:^|_)(?:TOKEN|TOKENS|SECRET|SECRETS|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|CREDENTIALS|AUTH|COOKIE|APIKEY|KEY|"
    r"KEYS|PAT|DSN)(?:_|$)|^(?:AWS|AZURE|GCP|GOOGLE|WANDB|MODAL|HF|HUGGING|HUGGINGFACE|OPENAI|ANTHROPIC|GITHUB|GH|"
    r"GITLAB|SSH|NETRC|KUBECONFIG)_|(?:TOKEN|SECRET|PASSWORD|APIKEY)$"
)
# A value that is one: a URL with a password, or the form of a token of a well-known service.
SECRET_VALUE = re.compile(r"://[^/\s]*:[^/\s]*@|\b(?:hf_|ghp_|gho_|github_pat_|glpat-|sk-|xox[abp]-|AKIA)[\w-]{16,}")

# Set by torchrun, by Ray or by us for other processes than the bundle.
FOREIGN = re.compile(
    r"^(?:SEED|DATA_PATH|TOKENIZER_PATH|PYTHONSTARTUP|RANK|WORLD_SIZE|LOCAL_.*|MASTER_.*|GROUP_.*|ROLE_.*|"
    r"TORCHELASTIC_.*|RAY_.*|GOLF_WORKER_FOLDER|OMP_NUM_THREADS|MKL_NUM_THREADS)$"
)

# What a script cannot be given, since its run depends on our setting it, and who does.
SET_BY_US = (
    (re.compile("SEED"), "--seeds sets it, a run each"),
    (re.compile("DATA_PATH"), "--data sets it"),
    (re.compile("TOKENIZER_PATH"), "--tokenizer sets it"),
    (re.compile("OMP_NUM_THREADS|MKL_NUM_THREADS"), "--threads sets it"),
    (re.compile("CUDA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES"), "set it for submit itself"),
    (re.compile("RANK|WORLD_SIZE|(?:LOCAL|MASTER|GROUP|ROLE|TORCHELASTIC)_.*"), "torchrun sets it"),
    (re.compile("GOLF_.*|RAY_.*|PYTHONUNBUFFERED|PYTHONPATH|PYTHONSTARTUP"), "it belongs to what runs the script"),
)

# What a script gets of ours without being named: what a program needs to find its machine, nothing that tunes one.
OF_THE_MACHINE = re.compile(
    r"^(?:PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|LD_LIBRARY_PATH|LIBRARY_PATH|CPATH|CC|CXX|"
    r"VIRTUAL_ENV|CONDA_PREFIX|CUDA_HOME|CUDA_PATH|CUDA_DEVICE_ORDER|CUDA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|"
    r"ROCR_VISIBLE_DEVICES|ROCM_PATH|NVIDIA_.*|XDG_CACHE_HOME|TRITON_CACHE_DIR|TORCHINDUCTOR_CACHE_DIR|PYTHONPATH)$"
)

PACKAGES = ("torch", "numpy", "sentencepiece", "zstandard", "brotli", "ray")
WRITTEN = (
    "OMP_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "NCCL_DEBUG",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_LOGS",
)


def bundle_environment(environ: Mapping[str, str], target: Mapping[str, typing.Any]) -> dict[str, str]:
    """What the bundle's processes get of ours: a script that prints its environment must find no secret in it."""
    kept = {
        name: value
        for name, value in environ.items()
        if not SECRET.search(name.upper()) and not FOREIGN.match(name) and not SECRET_VALUE.search(value)
    }
    if "PYTHONPATH" in kept:  # the worker's own holds this project; a bundle that needs it is no submission
        theirs = [one for one in kept.pop("PYTHONPATH").split(os.pathsep) if one and Path(one).resolve() != ROOT]
        kept |= {"PYTHONPATH": os.pathsep.join(theirs)} if theirs else {}
    kept["PYTHONUNBUFFERED"] = "1"
    if target["device"] == "cpu":
        kept |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(target["threads"])}
        kept |= {"HIP_VISIBLE_DEVICES": "-1"} if "HIP_VISIBLE_DEVICES" in kept else {}  # the stronger one on ROCm
    return kept


def script_environment(
    environ: Mapping[str, str], target: Mapping[str, typing.Any], given: Mapping[str, str]
) -> dict[str, str]:
    """What a script's processes get: of ours what names the machine, and what was given for it."""
    ours = {name: value for name, value in environ.items() if OF_THE_MACHINE.match(name)}
    return bundle_environment(ours, target) | dict(given)


def describe_machine(
    target: Mapping[str, typing.Any],
    seen: Mapping[str, str] | None = None,
    nvml: Callable[[], Library | None] | None = None,
) -> dict[str, typing.Any]:
    """env.json: versions, processor, GPUs, and the few variables that change what a run computes, of those that it
    sees: what a bundle would, where nothing else is said."""
    seen = bundle_environment(os.environ, target) if seen is None else seen
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": _gpus(seen, nvml) if target["device"] == "cuda" else [],
        "packages": packages,
        "variables": {name: seen[name] for name in WRITTEN if name in seen},
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")


def _gpus(environ: Mapping[str, str], nvml: Callable[[], Library | None] | None) -> list[dict[str, typing.Any]]:
    """What the bundle can see of this machine's GPUs; all of them where what hides them cannot be made out."""
    gpus = installed_gpus(nvml)
    with contextlib.suppress(UsageError):
        gpus = visible(gpus, environ)
    return [gpu.to_dict() for gpu in gpus]
