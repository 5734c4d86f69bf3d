"""A head whose job server loses replies, cuts lines in half or forgets its jobs: what its client makes of that."""

import asyncio
import json
import shlex
import threading
from types import SimpleNamespace

import pytest
from aiohttp import WSCloseCode, web

from orchestrator.backends import job_server
from orchestrator.backends.job_server import MARK, JobServer
from orchestrator.cluster import commands
from orchestrator.cluster.address import read_address
from orchestrator.cluster.options import ClusterOptions
from orchestrator.cluster.order import Order, Part
from orchestrator.cluster.remote import Answer, Head, checked, control_command
from orchestrator.cluster.submit import send_order
from orchestrator.cluster.wire import PREFIX, sha256
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.ledger.store import Ledger
from orchestrator.money.budget import read_account
from orchestrator.money.spending import Spending
from orchestrator.place import remembered
from orchestrator.settings import Settings
from tests.orchestrator.toy import COST, limits, submission


class Server:
    """A job server of one job, on a thread of its own. `tails`: what each connection to the log is sent, a string after
    which the job is running still, or None for a job that is not known."""

    def __init__(self):
        self.tails, self.posted, self.jobs, self.lose, self.taken_by = [], [], {}, 0, None
        self.loop, ready = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,))
        self.thread.start()
        ready.wait()

    def _run(self, ready):
        routes = [
            web.get("/api/version", self.version),
            web.get("/api/packages/gcs/{name}", self.version),
            web.get("/api/jobs/", self.list),
            web.post("/api/jobs/", self.post),
            web.get("/api/jobs/{job}", self.job),
            web.post("/api/jobs/{job}/stop", self.version),
            web.get("/api/jobs/{job}/logs/tail", self.tail),
        ]

        async def begin():
            app = web.Application()
            app.add_routes(routes)
            self.runner = web.AppRunner(app, access_log=None)
            await self.runner.setup()
            site = web.TCPSite(self.runner, "127.0.0.1", 0)
            await site.start()
            self.port = site._server.sockets[0].getsockname()[1]
            ready.set()

        self.loop.run_until_complete(begin())
        self.loop.run_forever()
        self.loop.run_until_complete(self.runner.cleanup())
        self.loop.close()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def version(self, request):
        return web.json_response({"ray_version": "2.60.0"})

    async def list(self, request):
        return web.json_response(list(self.jobs.values()))

    async def post(self, request):
        told = await request.json()
        self.posted.append(told["submission_id"])
        if self.lose and len(self.posted) <= self.lose:
            mark = self.taken_by or told["metadata"][MARK]
            self.jobs[told["submission_id"]] = told | {"status": "RUNNING", "metadata": {MARK: mark}}
            request.transport.abort()
        return web.json_response({})

    async def job(self, request):
        found = self.jobs.get(request.match_info["job"])
        return web.json_response(found, status=200 if found else 404)

    async def tail(self, request):
        text = self.tails.pop(0) if self.tails else None
        name = request.match_info["job"]
        if text is None:
            self.jobs.pop(name, None)
            return web.Response(status=404)
        self.jobs[name] = {"submission_id": name, "status": "RUNNING" if self.tails else "SUCCEEDED"}
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(text)
        await socket.close(code=WSCloseCode.OK)
        return socket


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(job_server, "WAIT_SECONDS", 0.01)
    made = Server()
    yield made
    made.close()


@pytest.fixture
def head(server):
    address = read_address(f"http://127.0.0.1:{server.port}", {"HOME": "/nowhere", "RAY_AUTH_MODE": "disabled"})
    return Head(JobServer(address), "~/golf-runs")


def frame(kind, **facts):
    return f"{PREFIX}{json.dumps({'type': kind} | facts)}\n"


def test_a_line_that_was_cut_in_half_is_heard_whole_once(server, head):
    """The connection ends in the middle of a frame while the job runs: the next one brings it, and nothing twice."""
    whole = frame("rows", number=1) + frame("event", number=2) + frame("end")
    server.tails = [whole[:50], whole[:60], whole]
    heard = [one["type"] for one in head.follow("golf-x-1", lambda note: None)]
    assert heard == ["rows", "event", "end"]


def test_a_job_that_went_with_its_head_is_followed_no_longer(server, head):
    """A head that was started anew knows it no more: that is told at once, not after half an hour of tries."""
    server.tails = [frame("rows", number=1), None]
    assert [one["type"] for one in head.follow("golf-x-1", lambda note: None)] == ["rows"]


@pytest.mark.parametrize("code", [0, 2, None])
def test_a_stream_that_did_not_reach_its_end_is_no_answer(server, head, code):
    """The exit code of the command is that of the stream; without one what came is not taken for all."""
    end = "" if code is None else frame("exit", code=code, size=2, sha256=sha256(b"ab"))
    server.tails = [frame("bytes", at=0, sha256=sha256(b"ab"), data="YWI=") + end, None]
    came = []
    if code is None:
        with pytest.raises(BackendFailure, match="what came is not all"):
            head.stream(["x"], came.append, lambda text: None)
    else:
        assert head.stream(["x"], came.append, lambda text: None) == code
    assert b"".join(came) == b"ab"


@pytest.mark.parametrize("taken_by", [None, "another request"])
def test_whose_job_it_is_is_known_though_the_reply_was_lost(server, head, taken_by):
    """The connection breaks after the job was made: by this request or, at the same moment, by somebody else's."""
    server.lose, server.taken_by = 1, taken_by
    assert head.server.submit("golf-x-1", "true", {}, {}) is (taken_by is None)
    assert server.posted == ["golf-x-1"]


def test_no_controller_is_begun_without_its_reservation(server, head, runs_dir):
    """A submit that finds one at work reserves nothing; where that one ends a moment later it starts none either."""
    asked = submission()
    order = Order(
        parts=(Part(submission=asked, limits=limits()),), options=ClusterOptions(state_dir="~/s", node_dir="~/n")
    )
    job = f"golf-{order.key}-1"
    states = iter(["RUNNING"])

    def jobs():
        return [job_server.JobInfo(job, next(states, "SUCCEEDED"), "", "")]

    head.server.jobs = jobs
    cluster = SimpleNamespace(head=head, server=head.server, options=order.options)
    sending = SimpleNamespace(
        cluster=cluster, submissions=lambda: [asked], order=lambda terms: order, spendings=None, retry_failed=False
    )
    with Ledger.create(runs_dir) as ledger:
        assert send_order(sending, ledger, SimpleNamespace(note=lambda text: None)) == job
    assert server.posted == []


@pytest.mark.parametrize("said", [b"5", b"[5]", b'"x"', b'{"metadata": 7}', b"null", b"<html>"])
def test_an_answer_that_is_no_job_servers_is_told_as_that(head, said):
    """JSON of any other shape, and what is none, is an error in words, not a trace."""
    head.server._ask = lambda method, path: said
    with pytest.raises(BackendFailure, match="is no job server of Ray"):
        head.server.info("golf-x-1")
    with pytest.raises(BackendFailure, match="is no job server of Ray"):
        head.server.jobs()


def test_what_a_submit_reserved_that_never_arrived_is_given_back(server, head, runs_dir, monkeypatch, capsys):
    """Its requests were all lost: `cancel` here asks the head, which has not heard of it, and frees the budget; while a
    job of it waits to begin there, nothing is given back."""
    asked = submission()
    order = Order(
        parts=(Part(submission=asked, limits=limits()),), options=ClusterOptions(state_dir="~/s", node_dir="~/n")
    )
    cluster = SimpleNamespace(head=head, server=head.server, options=order.options)
    paid = {asked.submission_id: Spending(COST, None)}
    sending = SimpleNamespace(
        cluster=cluster, submissions=lambda: [asked], order=lambda terms: order, spendings=lambda: paid
    )
    monkeypatch.setattr(head, "start", lambda order: (_ for _ in ()).throw(BackendFailure("nothing answers")))
    with Ledger.create(runs_dir) as ledger:
        with pytest.raises(BackendFailure, match="nothing answers"):
            send_order(sending, ledger, SimpleNamespace(note=lambda text: None))
        assert read_account(ledger).reserved == pytest.approx(2.0)
        place = remembered(ledger, asked.submission_id)
        assert place.url == head.server.url and place.here
        monkeypatch.setattr(commands, "open_head", lambda place, insecure: head)
        monkeypatch.setattr(head, "command", lambda verb, **facts: Answer(b"", 2, ("error: no such submission",)))
        where = Settings.resolve({"runs_dir": str(runs_dir)}, {}, runs_dir)
        server.jobs = {"j": {"submission_id": f"golf-{order.key}-1", "status": "PENDING"}}
        with pytest.raises(BackendFailure, match="has not begun"):
            commands.cancel(where, place, None, False)
        server.jobs = {}
        with pytest.raises(UsageError, match="seed 9 is not of this submission"):
            commands.cancel(where, place, (9,), False)
        assert read_account(ledger).reserved == pytest.approx(2.0)
        assert commands.cancel(where, place, None, False) == 0
        assert read_account(ledger).reserved == pytest.approx(0)
    assert "2.00 USD that were reserved are given back" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "ours"), [(2, 2), (5, 5), (1, 5)])
def test_what_is_wrong_there_ends_as_it_would_here(code, ours):
    """An id that the head does not have is a usage error, as it is on this machine; what broke there is a failure."""
    with pytest.raises(BackendFailure, match="on the head: no such submission") as error:
        checked(Answer(b"", code, ("error: no such submission",)))
    assert error.value.exit_code == ours


def test_questions_about_many_runs_fit_the_arguments_of_a_process(head, monkeypatch):
    """Of the runs of the largest grid, and with the attempts of many: Linux refuses a longer argument than 128 KiB."""
    asked, longest = [], 128 * 1024 - 2048  # what the entry point is, beside the question

    def answer(verb, **facts):
        question = shlex.join(control_command(verb, "~/golf-runs", **facts))
        assert len(question) < longest
        asked.extend(facts["run_ids"] or facts["here"])
        told = {"schema_version": 1, "origin": "o", "state_dir": "/s", "attempts": [], "inline": []}
        return Answer(json.dumps(told).encode() + b"\n", 0, ())

    monkeypatch.setattr(head, "command", answer)
    runs = [f"{number:064x}" for number in range(6000)]
    assert head.look_at_runs(runs).attempts == () and asked == runs
    asked.clear()
    attempts = [f"{number:016x}-a1" for number in range(20_000)]
    head.look("abc", attempts)
    assert asked == attempts[-len(asked) :] and len(asked) > 1000
