"""The doctor's look at Ray: a cluster by its address, or without one the local Ray that a submit would start.

Of the token it tells where it was found and who could read it, never what it is. The nodes are asked by a job that
reserves nothing.
"""

import importlib
import json
import os
import typing
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from orchestrator import errors
from orchestrator.backends.job_server import JobServer, resolve_auto
from orchestrator.checkout import ROOT
from orchestrator.cluster.address import AUTO, OLDEST_RAY, read_address, tighten, token_path
from orchestrator.cluster.node_findings import survey_findings
from orchestrator.cluster.probe import ProbeError, probe
from orchestrator.cluster.remote import Head, checked
from orchestrator.cluster.survey import Survey
from orchestrator.doctor.finding import OK, WARNING, WRONG, Finding
from orchestrator.errors import BackendFailure, CommandError, UsageError
from orchestrator.lock import numbers
from orchestrator.settings import Settings

SETUP = "make setup"
SURVEY_SECONDS = 240.0  # for the job: its start, and twice the time that a node has to answer
DATA_SECONDS = 900.0  # more where the shards are read
RESERVED_BYTES = 100_000_000  # of /dev/shm: Ray keeps its objects there


def ray_findings(settings: Settings, insecure: bool) -> Iterator[Finding]:
    """Of the cluster that the settings name, or of the local Ray."""
    return local_ray() if settings["address"] is None else cluster(settings, insecure)


def cluster(settings: Settings, insecure: bool) -> Iterator[Finding]:
    """Each step needs the one before it: where one is wrong, the rest is not asked."""
    yield from token(os.environ)
    try:
        address = read_address(settings["address"], os.environ, insecure, _place(settings))
        found_at = resolve_auto(address)
    except CommandError as error:
        yield Finding("address", WRONG, str(error), "", error.exit_code)
        return
    state, mend = (WARNING, "a tunnel or https protects it") if address.warning else (OK, "")
    told = f"{address.url} is {found_at.url}" if address.url == AUTO else address.url
    yield Finding("address", state, told + (f": {address.warning}" if address.warning else ""), mend)
    try:
        server = probe(found_at)
    except ProbeError as error:
        yield Finding("job server", WRONG, error.found, error.mend, error.exit_code)
        return
    asks = "asks for a token and takes ours" if server.asks_token else "asks for no token"
    yield Finding("job server", OK, f"{found_at.url} answers: Ray {server.ray}; it {asks}")
    try:
        found = take_survey(JobServer(found_at), settings)
    except CommandError as error:
        mend = "`ray status` on the head tells whether jobs can start there"
        yield Finding("survey", WRONG, str(error), mend, error.exit_code)
        return
    yield from survey_findings(found, ROOT, _ray_here(), settings["storage"])


def take_survey(server: JobServer, settings: Settings) -> Survey:
    """Ask every node by a job on the head. Raises CommandError."""
    command = ["-m", "orchestrator.backends.ray_survey", "--node-dir", settings["node_dir"]]
    seconds = SURVEY_SECONDS
    if settings["data"] is not None:
        if not settings["data"].startswith(("/", "~")):
            raise UsageError(f"--data {settings['data']}: on a cluster it names a folder of the nodes, from / or ~ on")
        command += ["--data", settings["data"]]
        command += [] if settings["tokenizer"] is None else ["--tokenizer", settings["tokenizer"]]
        seconds += DATA_SECONDS
    answer = checked(Head(server, settings["state_dir"]).run(command, seconds))
    try:
        told = json.loads(answer.data)
    except ValueError:
        raise BackendFailure(f"the head told something that is no survey: {answer.data[:60]!r}") from None
    return Survey.from_dict(told)


def _place(settings: Settings) -> str:
    source = settings.source("address")
    return source if source.startswith("--") else f"{source}: address"


def _ray_here() -> str | None:
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        return None


def token(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Which one would be used, and whether its file is its owner's alone."""
    mode = environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        yield Finding("token", OK, "none is sent: RAY_AUTH_MODE=disabled")
        return
    if environ.get("RAY_AUTH_TOKEN", "").strip():
        yield Finding("token", OK, "in RAY_AUTH_TOKEN (not shown)")
        return
    path = token_path(environ)
    try:
        seen = path.stat()
    except OSError as error:
        named = "RAY_AUTH_TOKEN_PATH" in environ
        mend = "name the file of the cluster's token" if named else "needed where the cluster asks for one"
        reason = error.strerror if named else "no token is known here"
        yield Finding("token", WRONG if named else OK, f"{path}: {reason}", mend if named else "", errors.USAGE)
        return
    found = f"in {path} (not shown), mode {seen.st_mode & 0o777:04o}"
    try:
        loose = tighten(path)
    except OSError as error:
        loose, mend = True, f"chmod 600 {path} ({error.strerror} for us)"
    else:
        mend = "made 0600 just now; whoever may have read it meanwhile knows it"
    if loose:
        yield Finding("token", WARNING, f"{found}: others could read it", mend)
    else:
        yield Finding("token", OK, found)


def local_ray() -> Iterator[Finding]:
    """The Ray of this machine that a submit without --address starts: here it is started, and ended again."""
    version = _ray_here()
    if version is None:
        yield Finding("ray", WRONG, "Ray is not installed", f"{SETUP}; --on process needs no Ray", errors.BACKEND)
        return
    if numbers(version) < numbers(OLDEST_RAY):
        found = f"Ray {version}; {OLDEST_RAY} or newer is needed"
        yield Finding("ray", WRONG, found, SETUP, errors.BACKEND)
        return
    yield from shared_memory()
    starter: typing.Any = importlib.import_module("orchestrator.backends.ray_trial")
    yield starter.trial()


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize if folder.is_dir() else 0
    if free < RESERVED_BYTES:
        found = f"{free / 1e6:.0f} MB free in {folder}, where Ray keeps objects"
        yield Finding("ray", WARNING, found, "in a container: --shm-size=2g; Ray takes /tmp else, which is slower")
