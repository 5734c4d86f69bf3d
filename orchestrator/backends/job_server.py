"""Ray's job server over HTTP: the only way to a cluster that is used from outside it.

Every request has a deadline, so that a silent connection ends too, and may be lost on the way there or back: one that
changes something is asked for by a name of ours, and looked for by that name before it is sent again. What is sent
needs no Ray on this side, so that no two versions have to be equal.
"""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import os
import secrets
import subprocess
import sys
import time
import typing
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from orchestrator.cluster.address import AUTO, ClusterAddress
from orchestrator.cluster.probe import TOKEN_MEND, ProbeError, opener_of, probe
from orchestrator.errors import BACKEND, BackendFailure

REQUEST_SECONDS = 30.0
UPLOAD_SECONDS = 120.0
TRIES, WAIT_SECONDS = 6, 0.5  # of a request; the wait doubles
PING_SECONDS = 60.0  # on the connection that a log is followed by
MARK = "golf_request"  # in the metadata of a job: which request made it
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
# A process of its own: Ray reads how it is to authenticate once, when it is imported.
ASK_RAY = "from ray.dashboard.utils import get_address_for_submission_client as ask; print(ask('auto'))"
Read = typing.TypeVar("Read")


class Refused(BackendFailure):
    """The server answered, and does not do it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class JobInfo:
    job: str  # the name that we gave it
    status: str
    message: str
    mark: str  # of the request that made it

    @property
    def over(self) -> bool:
        return self.status in OVER

    @classmethod
    def from_dict(cls, told: Mapping[str, typing.Any]) -> "JobInfo":
        return cls(
            str(told.get("submission_id") or ""),
            str(told.get("status") or ""),
            str(told.get("message") or ""),
            str((told.get("metadata") or {}).get(MARK) or ""),
        )


def resolve_auto(address: ClusterAddress) -> ClusterAddress:
    """The job server of the cluster that this machine is a node of, where `auto` was given."""
    if address.url != AUTO:
        return address
    env = {name: value for name, value in os.environ.items() if name != "RAY_API_SERVER_ADDRESS"}
    if "://" in env.get("RAY_ADDRESS", ""):  # one of a node says which of several clusters here; a URL is another place
        del env["RAY_ADDRESS"]
    if address.token is not None:  # Ray takes no token that it was not told to
        env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": address.token.value}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ASK_RAY],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=env,
    )
    url = done.stdout.strip().rpartition("\n")[2]
    if done.returncode or not url.startswith("http"):
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
        raise BackendFailure(
            f"--address auto: no Ray on this machine tells of its job server ({said[-1]}); "
            "elsewhere than on the head, give the job server's address, as in --address http://127.0.0.1:8265"
        )
    return dataclasses.replace(address, url=url.rstrip("/"))


class JobServer:
    """`address` is one that was read. Making one asks who answers there; raises ProbeError."""

    def __init__(self, address: ClusterAddress) -> None:
        self.address = resolve_auto(address)
        self.url = self.address.url
        self.ray = _probe(self.address)  # its version
        self._opener = opener_of(self.address)

    # --- requests

    def _once(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json", seconds: float = 0.0
    ) -> bytes:
        """One request. Raises Refused for an answer that says no, OSError or HTTPException where none came."""
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=self.address.headers)
        if body is not None:
            request.add_header("Content-Type", kind)
        try:
            with self._opener.open(request, timeout=seconds or REQUEST_SECONDS) as reply:
                return bytes(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode("utf-8", errors="replace")
            raise Refused(self._refusal(error.code, said), error.code) from None

    def _refusal(self, status: int, said: str) -> str:
        if status in (401, 403):
            return f"{self.url} does not take the token (it was changed?): {TOKEN_MEND}"
        lines = [line for line in said.splitlines() if line.strip(" .")]
        return f"{self.url} answered {status}: {lines[-1] if lines else 'nothing'}"

    def _ask(self, method: str, path: str) -> bytes:
        """A request that may be sent again."""
        return self._again(lambda: self._once(method, path), f"{method} {path}")

    def _again(self, act: typing.Callable[[], bytes], what: str) -> bytes:
        wait = WAIT_SECONDS
        for left in reversed(range(TRIES)):
            try:
                return act()
            except Refused as error:
                if error.status < 500 or not left:
                    raise
            except (OSError, http.client.HTTPException) as error:
                if not left:
                    raise self._unreachable(error, what) from error
            time.sleep(wait)
            wait *= 2
        raise AssertionError("the loop ends by return or raise")

    def _unreachable(self, error: Exception, what: str) -> BackendFailure:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        return BackendFailure(
            f"nothing answers at {self.url} ({what}: {_line(why)}); is the tunnel open and the head up? "
            "What runs on the cluster is not touched by this: the same command goes on"
        )

    def _read(self, data: bytes, what: str, make: typing.Callable[[typing.Any], Read]) -> Read:
        """What `make` makes of the JSON of an answer, which may be anybody's."""
        try:
            return make(json.loads(data))
        except (ValueError, TypeError, AttributeError):
            raise BackendFailure(
                f"{self.url} is no job server of Ray: {what} answered {data[:60]!r}; its port is 8265 by default"
            ) from None

    # --- what is there

    def info(self, job: str) -> JobInfo | None:
        try:
            return self._read(self._ask("GET", f"/api/jobs/{job}"), "a job", JobInfo.from_dict)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def jobs(self) -> list[JobInfo]:
        """Those that were submitted, not the drivers that ran by themselves."""

        def submitted(told: typing.Any) -> list[JobInfo]:
            return [JobInfo.from_dict(one) for one in told if one.get("submission_id")]

        return self._read(self._ask("GET", "/api/jobs/"), "the jobs", submitted)

    # --- what changes something

    def upload(self, package: str, data: bytes) -> None:
        """A package of code, named by its content: sent where the cluster does not have it."""
        path = f"/api/packages/gcs/{package}"
        try:
            self._ask("GET", path)  # also keeps it for ten minutes more
            return
        except Refused as error:
            if error.status != 404:
                raise
        self._again(
            lambda: self._once("PUT", path, data, "application/octet-stream", UPLOAD_SECONDS), f"upload of {package}"
        )

    def submit(
        self, job: str, entrypoint: str, runtime_env: Mapping[str, typing.Any], metadata: Mapping[str, str]
    ) -> bool:
        """Start the job; False where one of that name is there already, by whomever. Never two of a name. Whose it is
        tells a mark in it: a reply may have been lost, or the request before it was taken."""
        mark = secrets.token_hex(8)
        body = json.dumps(
            {
                "submission_id": job,
                "entrypoint": entrypoint,
                "runtime_env": dict(runtime_env),
                "metadata": {**metadata, MARK: mark},
                "entrypoint_num_cpus": 0,
                "entrypoint_num_gpus": 0,
            }
        ).encode()
        wait = WAIT_SECONDS
        for left in reversed(range(TRIES)):
            try:
                self._once("POST", "/api/jobs/", body)
                return True
            except Refused as error:
                if (found := self.info(job)) is not None:
                    return found.mark == mark
                if error.status < 500 or not left:
                    raise
            except (OSError, http.client.HTTPException) as error:
                if (found := self.info(job)) is not None:
                    return found.mark == mark
                if not left:
                    raise self._unreachable(error, f"submit of {job}") from error
            time.sleep(wait)
            wait *= 2
        raise AssertionError("the loop ends by return or raise")

    def stop(self, job: str) -> None:
        with contextlib.suppress(Refused):
            self._ask("POST", f"/api/jobs/{job}/stop")

    def forget(self, job: str) -> None:
        """Take a job that is over out of the cluster's list."""
        with contextlib.suppress(BackendFailure, OSError, http.client.HTTPException):
            self._once("DELETE", f"/api/jobs/{job}")

    # --- what a job prints

    def log(self, job: str) -> str:
        """All that it has printed."""
        data = self._again(lambda: self._once("GET", f"/api/jobs/{job}/logs", seconds=UPLOAD_SECONDS), "a job's log")
        return self._read(data, "a job's log", lambda told: str(told.get("logs") or ""))

    def follow(self, job: str) -> Iterator[str]:
        """Whole lines as they are printed, from the first, until the job is over, or known no more. Raises
        ConnectionError where the connection was lost before that."""
        messages = _tail(
            f"{self.url}/api/jobs/{job}/logs/tail", self.address.headers, trust_env=not self.address.loopback
        )
        rest = ""
        with _Steps(messages) as steps:
            while (message := steps.next()) is not None:
                *lines, rest = (rest + message).split("\n")
                yield from lines
        found = self.info(job)
        if found is not None and not found.over:  # what is left may be half a line, and comes whole the next time
            raise ConnectionError(f"the log of {job} ended before the job did")
        if rest:
            yield rest


class _Steps:
    """An asynchronous generator, a step at a time; Ctrl-C in one of them leaves nothing behind."""

    def __init__(self, messages: typing.AsyncGenerator[str, None]) -> None:
        self.messages, self.loop = messages, asyncio.new_event_loop()
        self.step: asyncio.Task[str | None] | None = None

    def __enter__(self) -> "_Steps":
        return self

    async def _next(self) -> str | None:
        return await anext(self.messages, None)

    def next(self) -> str | None:
        """None at the end."""
        self.step = self.loop.create_task(self._next())
        return self.loop.run_until_complete(self.step)

    def __exit__(self, *_: object) -> None:
        if self.step is not None and not self.step.done():
            self.step.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                self.loop.run_until_complete(self.step)
        self.loop.run_until_complete(self.messages.aclose())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


async def _tail(url: str, headers: Mapping[str, str], trust_env: bool) -> typing.AsyncGenerator[str, None]:
    import aiohttp

    patience = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(headers=dict(headers), timeout=patience, trust_env=trust_env) as session,
            session.ws_connect(url, heartbeat=PING_SECONDS, max_msg_size=0) as socket,
        ):
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT:
                    yield message.data
                elif message.type == aiohttp.WSMsgType.ERROR:
                    raise ConnectionError(str(socket.exception()))
            if socket.close_code not in (1000, None):
                raise ConnectionError(f"closed with code {socket.close_code}")
    except aiohttp.WSServerHandshakeError as error:
        if error.status != 404:  # then nobody knows the job: it went with its head
            raise ConnectionError(_line(error)) from None
    except aiohttp.ClientError as error:
        raise ConnectionError(_line(error)) from None


def _probe(address: ClusterAddress) -> str:
    """The version of Ray that answers; one lost request is not yet an answer."""
    try:
        return probe(address).ray
    except ProbeError as error:
        if error.exit_code != BACKEND:
            raise
    time.sleep(2 * WAIT_SECONDS)
    return probe(address).ray


def _line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
