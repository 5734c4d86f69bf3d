"""A cluster, from a machine that has its address and nothing else: jobs on its head, and what they print.

A controller is a job with a name of ours: a submit that does not know whether its request arrived looks for that name.
Everything else is a short job whose output, checked, is the answer.
"""

import json
import re
import secrets
import shlex
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from orchestrator.backends.job_server import JobInfo, JobServer
from orchestrator.cluster.order import Order
from orchestrator.cluster.parcel import Parcel, make_parcel
from orchestrator.cluster.transfer import Seen
from orchestrator.cluster.wire import Frame, Receiver, hear, whole
from orchestrator.errors import USAGE, BackendFailure

COMMAND_SECONDS = 180.0  # for a short job, its start with it
LOOKS = (0.1, 0.2, 0.3, 0.5, 1.0)  # seconds between looks whether it has ended
READ_TRIES = 3
# What is asked is an argument of a process, and Linux takes 128 KiB in one: runs in a question, attempts in an answer's
# exception (one that is left out is sent again).
ASKED, KNOWN = 1500, 4000
TOGETHER = 25  # submissions of one look: their bundles are some 3 MB
LONGEST_WAIT = 15.0  # seconds between tries to follow again
GIVE_UP_SECONDS = 1800.0  # without any connection
# The interpreter that Ray itself runs in: `python3` of the head's PATH may be another one.
PYTHON = (
    'P=${VIRTUAL_ENV:-$(sed -n "s|.* \\(/.*\\)/lib/python3[^/]*/site-packages/ray/_raylet.so.*|\\1|p" '
    '/proc/$PPID/maps | head -n 1)}; [ -x "$P/bin/python3" ] && P="$P/bin/python3" || P=python3; exec "$P" '
)


@dataclass(frozen=True)
class Answer:
    data: bytes
    code: int
    text: tuple[str, ...]  # what it said on stderr


class Head:
    """`packages`: what Ray is to install for our jobs, if anything."""

    def __init__(self, server: JobServer, state_dir: str, packages: Sequence[str] = ()) -> None:
        self.server, self.state_dir, self.packages = server, state_dir, tuple(packages)
        self._code: Parcel | None = None

    # --- short commands

    def run(self, command: Sequence[str], seconds: float = COMMAND_SECONDS) -> Answer:
        """Run `python3 COMMAND` on the head and wait for its end. Raises BackendFailure where that cannot be told."""
        job = self._begin(command)
        try:
            found = self._await(job, seconds)
            for left in reversed(range(READ_TRIES)):
                try:
                    frames, code, text = _split(self.server.log(job))
                    break
                except BackendFailure as error:
                    if not left:
                        raise BackendFailure(f"{error} (job {job}: {found.status.lower()}, {found.message})") from None
                    time.sleep(LOOKS[-1])
        finally:
            self.server.forget(job)
        return Answer(frames, code, tuple(text))

    def stream(self, command: Sequence[str], write: Callable[[bytes], None], text: Callable[[str], None]) -> int:
        """Pass on what a command prints, as it prints it, and return its exit code. It is ended with us."""
        job, receiver = self._begin(command), Receiver()
        try:
            for line in self._lines(job, text):
                if (frame := hear(line)) is None:
                    continue
                if frame["type"] == "text":
                    text(str(frame["text"]))
                elif frame["type"] in ("bytes", "exit"):
                    write(receiver.take(frame))
                if receiver.code is not None:
                    return receiver.code
        finally:
            if receiver.code is None:
                self.server.stop(job)
        raise BackendFailure(f"job {job} is gone from the head, which was started anew: what came is not all")

    def command(self, verb: str, **facts: typing.Any) -> Answer:
        """A verb of control.py, in the state folder."""
        return self.run(control_command(verb, self.state_dir, **facts))

    def look(self, prefix: str | None, here: Sequence[str] | None = None) -> Seen:
        """A submission as it stands there; `here`: attempts that need not be sent, None: nothing is to be sent."""
        known = None if here is None else list(here)[-KNOWN:]
        found = self.command("look", submission=prefix, run_ids=None, here=known)
        return Seen.from_bytes(checked(found).data)

    def look_at(self, submission_ids: Sequence[str], here: Sequence[str]) -> Iterator[Seen]:
        """Many submissions, so many at a time."""
        for begin in range(0, len(submission_ids), TOGETHER):
            part = list(submission_ids[begin : begin + TOGETHER])
            found = self.command("look", submissions=part, run_ids=None, here=list(here)[-KNOWN:])
            yield Seen.from_bytes(checked(found).data)

    def look_at_runs(self, run_ids: Sequence[str]) -> Seen:
        """Attempts of runs that nobody may have asked for yet."""
        parts = [run_ids[begin : begin + ASKED] for begin in range(0, len(run_ids), ASKED)]
        seen = [Seen.from_bytes(checked(self.command("look", run_ids=list(part), here=None)).data) for part in parts]
        return replace(seen[0], attempts=tuple(attempt for one in seen for attempt in one.attempts))

    def send(self, pieces: Sequence[Sequence[typing.Any]]) -> bytes:
        for left in reversed(range(READ_TRIES)):
            try:
                return checked(self.command("send", files=[list(one) for one in pieces])).data
            except BackendFailure:
                if not left:
                    raise
        raise AssertionError("the loop ends by return or raise")

    def _begin(self, command: Sequence[str]) -> str:
        job = f"golf-command-{secrets.token_hex(8)}"
        if self._code is None:
            self._code = make_parcel()
        self._submit(job, self._code, ["answer", "python3", *command], {})
        return job

    def _submit(self, job: str, parcel: Parcel, arguments: Sequence[str], metadata: dict[str, str]) -> bool:
        self.server.upload(parcel.name, parcel.data)
        runtime_env: dict[str, typing.Any] = {"working_dir": parcel.uri}
        if self.packages:
            runtime_env["pip"] = {"packages": list(self.packages), "pip_check": False}
        entrypoint = PYTHON + shlex.join(["-m", "orchestrator.cluster.control", *arguments])
        return self.server.submit(job, entrypoint, runtime_env, metadata)

    def _await(self, job: str, seconds: float) -> JobInfo:
        until, looks = time.monotonic() + seconds, iter(LOOKS)
        while (found := self.server.info(job)) is None or not found.over:
            if time.monotonic() > until:
                self.server.stop(job)
                state = "is not known" if found is None else f"is {found.status.lower()}: {found.message}"
                raise BackendFailure(f"a command on the head did not end within {seconds:g} s; its job {job} {state}")
            time.sleep(next(looks, LOOKS[-1]))
        return found

    # --- the controller

    def controllers(self, key: str) -> list[tuple[int, JobInfo]]:
        """The controller jobs of an order, in order."""
        pattern = re.compile(rf"golf-{re.escape(key)}-([1-9][0-9]*)")
        found = [(int(match[1]), job) for job in self.server.jobs() if (match := pattern.fullmatch(job.job))]
        return sorted(found, key=lambda one: one[0])

    def live(self, key: str) -> str:
        """The job that controls an order now; empty where there is none."""
        there = self.controllers(key)
        return there[-1][1].job if there and not there[-1][1].over else ""

    def start(self, order: Order) -> tuple[str, bool]:
        """The job that controls the order, and whether it was begun by this call. One that lives is taken; of many who
        begin one at once, one does."""
        parcel, what = make_parcel(order), {"golf": order.describe()}
        while True:
            there = self.controllers(order.key)
            if there and not there[-1][1].over:
                return there[-1][1].job, False
            job = f"golf-{order.key}-{1 + (there[-1][0] if there else 0)}"
            began = self._submit(job, parcel, ["supervise", job], what)
            found = self.server.info(job)
            if began or (found is not None and not found.over):
                return job, began

    def follow(self, job: str, note: Callable[[str], None]) -> Iterator[Frame]:
        """What the controller tells, until its job is over. A lost connection is made again."""
        for line in self._lines(job, note):
            if (frame := hear(line)) is not None:
                yield frame

    def _lines(self, job: str, note: Callable[[str], None]) -> Iterator[str]:
        taken, wait, told = 0, 0.5, False
        heard = time.monotonic()
        while True:
            number = 0
            try:
                for number, line in enumerate(self.server.follow(job), 1):
                    if told:
                        told = False
                        note("connected again")
                    heard, wait = time.monotonic(), 0.5
                    if number > taken:
                        taken = number
                        yield line
                return
            except (OSError, BackendFailure) as error:
                if time.monotonic() - heard > GIVE_UP_SECONDS:
                    raise BackendFailure(f"no connection for {GIVE_UP_SECONDS / 60:g} minutes: {error}") from None
                if not told:
                    told = True
                    note(f"the connection was lost ({error}); trying again. What runs on the cluster goes on")
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)


def control_command(verb: str, state_dir: str, **facts: typing.Any) -> list[str]:
    asked = {"verb": verb, "state_dir": state_dir} | facts
    return ["-m", "orchestrator.cluster.control", "command", json.dumps(asked)]


def checked(answer: Answer) -> Answer:
    """The answer of a command that must have ended well."""
    if answer.code:
        said = [line for line in answer.text if line.strip()]
        error = BackendFailure(f"on the head: {said[-1].removeprefix('error: ') if said else f'code {answer.code}'}")
        if answer.code == USAGE:  # what was asked for is wrong there as it would be here
            error.exit_code = USAGE
        raise error
    return answer


def _split(log: str) -> tuple[bytes, int, list[str]]:
    lines = log.splitlines()
    data, code, _ = whole(lines)
    said = [str(frame["text"]) for frame in map(hear, lines) if frame is not None and frame["type"] == "text"]
    return data, code, said
