"""The environment of a run: what of it the bundle sees, and what of the machine is written down. No secrets."""

import contextlib
import os
import platform
import re
import typing
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.gpus import installed_gpus, visible

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

ROOT = Path(__file__).resolve().parents[1]
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


def describe_machine(target: Mapping[str, typing.Any]) -> dict[str, typing.Any]:
    """env.json: versions, processor, GPUs, and the few variables that change what a run computes."""
    packages: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            packages[name] = None
    seen = bundle_environment(os.environ, target)
    return {
        "schema_version": 1,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "gpus": _gpus(seen) if target["device"] == "cuda" else [],
        "packages": packages,
        "variables": {name: seen[name] for name in WRITTEN if name in seen},
    }


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "")


def _gpus(environ: Mapping[str, str]) -> list[dict[str, typing.Any]]:
    """What the bundle can see of this machine's GPUs; all of them where what hides them cannot be made out."""
    gpus = installed_gpus()
    with contextlib.suppress(UsageError):
        gpus = visible(gpus, environ)
    return [gpu.to_dict() for gpu in gpus]
