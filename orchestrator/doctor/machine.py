"""The doctor command: what a submit from here would stand on, a line each, with the mend where something is wrong.

It starts nothing, rents nothing and asks nobody over the network, unless --hub or --on says so. Of credentials it
tells that they are there, never what they are.
"""

import http.client
import os
import platform
import re
import shutil
import sys
import typing
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from golf_core.prepare.endpoint import DEFAULT_ENDPOINT, shown_endpoint
from orchestrator import errors
from orchestrator.backends import MODAL
from orchestrator.checkout import ROOT
from orchestrator.data_check import DataCheck
from orchestrator.doctor.finding import ATTEMPT_BYTES, OK, SCARCE_BYTES, WARNING, WRONG, Finding, tell
from orchestrator.errors import UsageError
from orchestrator.hardware.gpus import installed_gpus, visible
from orchestrator.lock import python_asked, requirements
from orchestrator.settings import DEFAULT, Settings

SETUP = "make setup"  # installs what the lock says
DEMO_BYTES = 4 * 1024**3  # of memory: two trainers of the demo and Ray beside them
HUB_SECONDS = 10.0


def doctor(settings: Settings, hub: bool, as_json: bool, where: str | None = None, insecure: bool = False) -> int:
    """Run the command; 0, or the exit code of what is wrong: 2 for data and settings, 5 for the machine. `where` may be
    ray or modal; else it is this machine alone."""
    if where == MODAL:
        return tell(with_modal(settings), as_json)
    return tell(with_ray(settings, hub, insecure) if where == "ray" else findings(settings, hub), as_json)


def with_modal(settings: Settings) -> Iterator[Finding]:
    """Of this machine what a submit to Modal needs."""
    from orchestrator.doctor.cloud import modal_findings  # what talks to clouds is not for every look

    yield from of_sender(settings)
    yield from modal_findings(settings)


def of_sender(settings: Settings) -> Iterator[Finding]:
    """Of a machine that sends runs elsewhere: data and GPUs are those there."""
    yield python()
    yield from packages(ROOT)
    yield next(disk(settings))


def with_ray(settings: Settings, hub: bool, insecure: bool) -> Iterator[Finding]:
    """With a cluster, of this machine only what a submit to it needs."""
    from orchestrator.doctor.cluster import ray_findings  # what talks to clusters is not for every look

    if settings["address"] is None:
        yield from findings(settings, hub)
    else:
        yield from of_sender(settings)
    yield from ray_findings(settings, insecure)


def findings(settings: Settings, hub: bool) -> Iterator[Finding]:
    """Everything that is looked at, the quick first. The check of the data runs beside the rest."""
    try:
        check: DataCheck | None = DataCheck(settings["data"], settings["tokenizer"], None)
        refusal = ""
    except UsageError as error:
        check, refusal = None, str(error)
    try:
        yield python()
        yield from packages(ROOT)
        yield torch_build()
        yield machine()
        yield from disk(settings)
        yield from gpus(os.environ)
        yield from credentials(os.environ)
        if hub:
            yield hub_answers()
        yield data(settings, check, refusal)
    finally:
        if check is not None:
            check.close()


def python() -> Finding:
    found = f"Python {platform.python_version()} at {sys.executable}"
    wanted, least = python_asked(ROOT)
    if sys.version_info < least:
        return Finding("python", WRONG, found, f"Python {wanted} is needed: make setup PYTHON=...", errors.BACKEND)
    return Finding("python", OK, found)


def packages(root: Path) -> Iterator[Finding]:
    """What pyproject.toml asks for, installed against asked and against the lock. Another version than the lock's is a
    warning: it may do, and nobody has tried it."""
    asked, good = list(requirements(root)), 0
    for one in asked:
        expected = one.describe()
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            yield Finding("packages", WRONG, f"{one.name} is not installed; {expected}", SETUP, errors.BACKEND)
            continue
        if one.too_old(version):
            yield Finding("packages", WRONG, f"{one.name} {version} is installed; {expected}", SETUP, errors.BACKEND)
        elif not one.as_locked(version):  # which build of torch it is, the next line tells
            mend = f"{SETUP}: the locked one"
            yield Finding("packages", WARNING, f"{one.name} {version} is installed; {expected}", mend)
        else:
            good += 1
    if good:
        yield Finding("packages", OK, f"{good} of {len(asked)} are as the lock says")


def torch_build() -> Finding:
    """For CPU, CUDA or ROCm, by its version file: nothing heavy is imported."""
    try:
        distribution = metadata.distribution("torch")
        text = Path(str(distribution.locate_file("torch/version.py"))).read_text(encoding="utf-8")
    except (metadata.PackageNotFoundError, OSError):
        return Finding("torch", WRONG, "no torch is installed", SETUP, errors.BACKEND)
    said = dict(re.findall(r"^(cuda|hip)\b[^=\n]*= *'([^']+)'", text, re.MULTILINE))
    builds = {"cuda": "CUDA", "hip": "ROCm"}
    build = " and ".join(f"{builds[key]} {value}" for key, value in said.items()) or "CPU alone"
    found, here = f"torch {distribution.version}, built for {build}", {gpu.source for gpu in installed_gpus()}
    needed = "cuda" if "nvml" in here else "hip" if "rocm-smi" in here else None
    if needed is not None and needed not in said:
        way = "README.md says how to choose a build: make setup PIP_OPTIONS=..."
        return Finding("torch", WARNING, f"{found}, which cannot use the GPUs here", way)
    return Finding("torch", OK, found)


def machine() -> Finding:
    cores, memory = len(os.sched_getaffinity(0)), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found = f"{cores} core{'s' if cores > 1 else ''}, {memory / 1e9:.1f} GB of memory, {platform.platform()}"
    if memory < DEMO_BYTES:
        return Finding("machine", WARNING, found, "the demo on Ray takes about 4 GB; `--on process` takes less")
    return Finding("machine", OK, found)


def disk(settings: Settings) -> Iterator[Finding]:
    """Space where runs are kept and where data lies, and whether runs can be written."""
    for name, setting in (("runs folder", settings["runs_dir"]), ("data folder", settings["data"] or ROOT / "data")):
        asked = Path(setting).absolute()
        folder = next(one for one in (asked, *asked.parents) if one.exists())
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            yield Finding(name, WRONG, f"{folder}: {error.strerror}", "name another folder", errors.BACKEND)
            continue
        found = f"{free / 1e9:.1f} GB free at {folder}"
        writes = name == "runs folder"
        if writes and not folder.is_dir():
            yield Finding(name, WRONG, f"{folder} is a file", "name another --runs-dir", errors.USAGE)
        elif writes and not os.access(folder, os.W_OK | os.X_OK):
            yield Finding(name, WRONG, f"{folder} cannot be written", "name another --runs-dir", errors.BACKEND)
        elif writes and free < ATTEMPT_BYTES:
            yield Finding(name, WRONG, found, "make space, or name another --runs-dir", errors.BACKEND)
        elif free < SCARCE_BYTES:
            yield Finding(name, WARNING, found, "it may not last for long: an attempt takes up to 0.2 GB, FineWeb 16")
        else:
            yield Finding(name, OK, found)


def gpus(environ: Mapping[str, str]) -> Iterator[Finding]:
    there = installed_gpus()
    if not there:
        yield Finding("gpus", OK, "none here (NVML and rocm-smi name none): --device cpu")
        return
    try:
        seen = visible(there, environ)
    except UsageError as error:
        yield Finding("gpus", WRONG, str(error), "unset the variable, or name GPUs that are here", errors.USAGE)
        return
    for gpu in there:
        facts = [gpu.name, *([f"{gpu.memory_bytes / 2**30:.0f} GiB"] if gpu.memory_bytes else [])]
        facts += [f"driver {gpu.driver}"] if gpu.driver else []
        hidden = gpu not in seen
        yield Finding(
            "gpus",
            WARNING if hidden else OK,
            ", ".join(facts) + (", hidden by the environment" if hidden else ""),
            "unset CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES to use it" if hidden else "",
        )
    if len({gpu.name for gpu in seen}) > 1:
        yield Finding("gpus", WRONG, "they are of several models", "CUDA_VISIBLE_DEVICES chooses one", errors.BACKEND)


def credentials(environ: Mapping[str, str]) -> Iterator[Finding]:
    """By name alone. None of them is needed for a run on this machine."""
    home = Path(environ.get("HOME") or "/nonexistent")
    hugging_face = Path(environ.get("HF_HOME") or home / ".cache" / "huggingface")
    places: dict[str, tuple[tuple[str, ...], tuple[Path, ...], str]] = {
        "Hugging Face": (
            ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
            (Path(environ.get("HF_TOKEN_PATH") or hugging_face / "token"),),
            "published data needs none",
        ),
        "Modal": (
            ("MODAL_TOKEN_ID",),
            (Path(environ.get("MODAL_CONFIG_PATH") or home / ".modal.toml"),),
            "`modal token new` makes one",
        ),
        "Ray cluster": (
            ("RAY_AUTH_TOKEN",),
            (Path(environ.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token"),),
            "a local Ray makes its own",
        ),
    }
    for name, (variables, files, without) in places.items():
        there = [variable for variable in variables if environ.get(variable)]
        there += [str(path) for path in files if path.is_file()]
        yield Finding("credentials", OK, f"{name}: {', '.join(there) or 'none'}" + ("" if there else f" ({without})"))


def hub_answers() -> Finding:
    """Whether the hub that data comes from answers at all."""
    mend = "look at the connection, a proxy (HTTPS_PROXY) or HF_ENDPOINT"
    try:
        address = shown_endpoint(os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT))
    except ValueError as error:
        return Finding("hub", WRONG, str(error), mend, errors.USAGE)
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_SECONDS) as answer:
            return Finding("hub", OK, f"{address} answers ({answer.status})")
    except urllib.error.HTTPError as error:  # it is there; what it thinks of this page does not matter, up to a point
        if error.code < 500:
            return Finding("hub", OK, f"{address} answers ({error.code})")
        return Finding("hub", WRONG, f"{address} answers {error.code}", mend, errors.BACKEND)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding("hub", WRONG, f"{address} does not answer: {error}", mend, errors.BACKEND)


def data(settings: Settings, check: DataCheck | None, refusal: str) -> Finding:
    """Every shard and the tokenizer read, against the manifest where there is one."""
    place = "the embedded corpus" if settings["data"] is None else f"--data {settings['data']}"
    if settings.source("data") not in (DEFAULT, "--data"):
        place += f" (of {settings.source('data')})"
    if check is None:
        return Finding("data", WRONG, refusal, "see docs/data.md", errors.USAGE)
    try:
        found: typing.Any = check.result()
    except UsageError as error:
        return Finding("data", WRONG, str(error), "see docs/data.md", errors.USAGE)
    told = f"{place}: {found.describe()}"
    if found.name is None:
        return Finding("data", WARNING, told, "without a manifest nobody can tell whether it is as it was published")
    return Finding("data", OK, told)
