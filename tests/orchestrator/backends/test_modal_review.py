"""What drives and follows attempts on Modal, against an account in memory: a second look at what may cost money."""

import json
from dataclasses import replace

import pytest

from golf_core.rundir import SEAL, VOID, read_json
from orchestrator.attempts import ATTEMPTS, NODE, create
from orchestrator.backends import modal_backend, modal_deploy, modal_follow
from orchestrator.backends.base import Job, Unavailable
from orchestrator.backends.modal_backend import ModalBackend
from orchestrator.backends.modal_client import CallState
from orchestrator.case import lease_of_submission
from orchestrator.cloud import attached as attached_module
from orchestrator.cloud.chains import Following
from orchestrator.cloud.options import AppOptions
from orchestrator.cloud.there import Sent, mark_sent
from orchestrator.controller import Controller
from orchestrator.drive import register
from orchestrator.ledger.store import Ledger
from orchestrator.money.budget import Terms, read_account
from orchestrator.money.spending import make_admission
from orchestrator.settings import Settings
from tests.orchestrator.cloud.memory import MemoryCloud
from tests.orchestrator.toy import limits, submission
from tests.processes import until


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(modal_follow, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(modal_follow, "TROUBLE_SECONDS", 0.01)


@pytest.fixture
def cloud():
    return MemoryCloud()


@pytest.fixture
def ledger(tmp_path):
    with Ledger.create(tmp_path) as made:
        yield made


TERMS = Terms(
    reservation="r", worst_usd=30.0, attempt_usd=10.0, usd_per_hour=36.0, expected_usd=3.0, attempts=3, seeds=1
)


class Session:
    """A controller, one round at a time."""

    def __init__(self, cloud, ledger, seeds=(1,), terms=None, slots=9, **kwargs):
        self.asked, self.cloud, runs_dir = submission(seeds=seeds), cloud, ledger.path.parent
        register(self.asked, runs_dir, ledger)
        lease = ledger.acquire(lease_of_submission(self.asked.submission_id))
        self.backend = ModalBackend(runs_dir, cloud, print, options_of=lambda job: AppOptions(gpu=None))
        admission = make_admission(self.asked, terms, False, ledger, lease, goes_on=True) if terms is not None else None
        self.controller = Controller(
            self.asked, runs_dir, ledger, lease, lambda: self.backend, limits(), slots,
            backend_name="modal", admission=admission, **kwargs,
        )  # fmt: skip
        self.ledger, self.lease = ledger, lease

    def until(self, condition, what):
        until(lambda: self.controller.round() or condition(), what)

    def over(self):
        self.until(lambda: False, "the end")
        self.close()
        return {case.run.seed: (case.end.verb, case.end.reason) for case in self.controller.cases}

    def close(self):
        self.controller.close()
        self.ledger.release(self.lease)


def test_a_failed_attempt_is_tried_again_where_that_is_asked_for(cloud, ledger):
    """`--retry-failed`, in another process than saw it end: a second attempt is begun, and the first is not followed
    once more as if it had just ended."""
    first = Session(cloud, ledger)
    first.until(lambda: cloud.calls, "a call")
    cloud.fail("fc-0", "user_error")
    assert first.over() == {1: ("stop", "user_error")}
    again = Session(cloud, ledger)
    assert again.over() == {1: ("stop", "user_error")} and len(cloud.calls) == 1
    retried = Session(cloud, ledger, retry_failed=True)
    retried.until(lambda: len(cloud.calls) == 2, "a second call")
    assert cloud.orders["fc-1"].number == 2
    cloud.fail("fc-1", "nan")
    assert retried.over() == {1: ("stop", "nan")}


def test_a_machine_that_is_taken_away_gets_no_more_starts_than_are_paid_for(cloud, ledger):
    """A run has a share of three attempts: what its first call used, the restarts of its second may not use again."""
    session = Session(cloud, ledger)
    session.until(lambda: cloud.calls, "a call")
    cloud.fail("fc-0", "wrong_hardware")
    session.until(lambda: len(cloud.calls) == 2, "a second call")
    assert [cloud.orders[call].restarts for call in ("fc-0", "fc-1")] == [2, 1]
    session.close()


def laid_down(cloud, ledger, claims=()):
    """An attempt of a process that died between its order and the answer."""
    asked, runs_dir = submission(), ledger.path.parent
    run = asked.run_json(asked.runs[0], 1, limits())
    folder = create(runs_dir, run, asked.bundle)
    backend = ModalBackend(runs_dir, cloud, print, options_of=lambda job: AppOptions(gpu=None))
    cloud.fails["claim"] = cloud.fails["claimed"] = 0
    backend._follow = lambda handle: pytest.fail("not now")
    cloud.fails["call"] = 1
    with pytest.raises(Exception, match="call is not answered"):
        backend.start(Job(folder.name, folder))
    return folder


def test_a_command_that_only_looks_gets_over_an_order_that_nobody_answered(cloud, ledger):
    """The process died between its order and the answer. Looking begins nothing and fails nothing; where a container
    has claimed the attempt meanwhile, its call is found."""
    folder = laid_down(cloud, ledger)
    assert read_json(folder / NODE)["call"] == ""
    looking = ModalBackend(ledger.path.parent, cloud, print)
    assert looking.find(folder.name) is None and not cloud.calls
    cloud.claims[f"own:{folder.name}:0"] = cloud.call(None)
    assert looking.find(folder.name)["call"] == "fc-0" == read_json(folder / NODE)["call"]
    looking.close()


def test_an_order_that_got_through_without_an_answer_is_paid_for(cloud, ledger):
    """The call was made, the claim was not answered: counted as refused at first, found at work, and then paid."""
    session = Session(cloud, ledger, terms=TERMS)
    cloud.fails["claim"] = 1
    session.until(lambda: session.controller.cases[0].live is not None, "the call found again")
    assert cloud.orders["fc-0"].key == cloud.orders[cloud.claims[f"fc:{cloud.orders['fc-0'].key}"]].key
    cloud.fail(cloud.claims[f"fc:{cloud.orders['fc-0'].key}"], "user_error", seconds=100.0)
    session.over()
    assert read_account(ledger).spent == pytest.approx(1.0)


@pytest.fixture
def left_after_the_canary(cloud, ledger):
    """Of two seeds the first has ended, and its container has given the order of the second, which waits for a
    machine; whoever drove them is ended with Ctrl-C before it knows of that. 10 USD of 60 may have been spent."""
    terms = replace(TERMS, worst_usd=60.0, seeds=2)
    session = Session(cloud, ledger, seeds=(1, 2), terms=terms, slots=1)
    session.until(lambda: cloud.calls, "a call")
    mark_sent(ledger, session.asked.submission_id, None)
    second = session.asked.run_json(session.asked.runs[1], 1, limits())
    follower = cloud.orders["fc-0"].follower((second,), "train")
    cloud.complete("fc-0", seconds=100.0)
    session.backend.hold = lambda job: "waits, since this test says so"
    session.until(lambda: session.controller.cases[0].end is not None, "the end of the first seed")
    session.backend.close()
    cloud.claims[f"fc:{follower.key}"] = cloud.call(follower)
    session.controller.interrupt()
    session.close()
    return session.asked


def test_ctrl_c_keeps_the_money_of_what_goes_on_by_itself(ledger, left_after_the_canary):
    """What containers begin without anybody is paid for from what was reserved."""
    found = read_account(ledger)
    assert (found.spent, found.reserved) == (pytest.approx(1.0), pytest.approx(59.0))


@pytest.mark.parametrize("waits", [True, False])
def test_a_look_gives_back_no_money_that_a_waiting_call_will_use(
    cloud, ledger, left_after_the_canary, monkeypatch, waits
):
    """`status` while a call of the submission waits for a machine: no attempt of it lies anywhere, and it will cost.
    Once it has ended, what was not needed is given back."""
    monkeypatch.setattr(attached_module, "open_cloud", lambda settings: cloud)
    asked, runs_dir = left_after_the_canary, ledger.path.parent
    if not waits:
        cloud.end("fc-1", cls="cancelled")
    sent = Sent(asked.submission_id, (asked.submission_id,), here=True)
    with attached_module.attached(Settings.resolve({"runs_dir": str(runs_dir)}, {}, runs_dir), sent):
        pass
    assert read_account(ledger).reserved == pytest.approx(59.0 if waits else 0.0)


def seal_of(entry):
    return json.dumps({"schema_version": 1, "files": {"artifact.bin": entry}}).encode()


LARGE = object()
DEEP = b'{"files": ' + b"[" * 100_000
HOSTILE = {
    "another artifact": ("artifact.bin", b"another"),
    "no artifact": ("artifact.bin", None),
    "no files": (SEAL, b"{}"),
    "a list": (SEAL, b"[]"),
    "no entry": (SEAL, seal_of(7)),
    "no end": (SEAL, b'{"files": {"artifact.bin": {"size": 1e999, "sha256": "a"}}}'),
    "less than nothing": (SEAL, seal_of({"size": -1, "sha256": "a"})),
    "elsewhere": (SEAL, b'{"files": {"../../ledger.sqlite": {"size": 1, "sha256": "a"}}}'),
    "no text": (SEAL, b"\xff\xfe"),
    "deep": (SEAL, DEEP),
    "a large file": ("artifact.bin", LARGE),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_cannot_be_relied_on_ends_as_damaged_and_may_be_tried_again(cloud, ledger, monkeypatch, what):
    """Whatever lies on the volume: the run stops, nothing outside of its attempt is written, another process sees the
    same, and only who asks for it gets another attempt. What its container took is paid for."""
    session = Session(cloud, ledger, terms=TERMS)
    session.until(lambda: cloud.calls, "a call")
    cloud.complete("fc-0", seconds=100.0)
    name, content = HOSTILE[what]
    place = f"{ATTEMPTS}/{cloud.orders['fc-0'].attempt_id}/{name}"
    if content is None:
        del cloud.files[place]
    elif content is LARGE:
        monkeypatch.setattr(modal_follow, "MAX_BYTES", 5)
    else:
        cloud.files[place] = content
    before = set(ledger.path.parent.rglob("*"))
    assert session.over() == {1: ("stop", "damaged")}
    new = {path.parent.name for path in set(ledger.path.parent.rglob("*")) - before}
    assert new <= {cloud.orders["fc-0"].attempt_id}
    assert read_account(ledger).spent == pytest.approx(1.0)
    assert Session(cloud, ledger).over() == {1: ("stop", "damaged")} and len(cloud.calls) == 1
    retried = Session(cloud, ledger, retry_failed=True)
    retried.until(lambda: len(cloud.calls) == 2, "a second call")
    assert cloud.orders["fc-1"].number == 2
    retried.close()


def test_a_large_file_that_nobody_sealed_stays_there(cloud, ledger, monkeypatch):
    """A checkpoint that a training left beside its artifact is not brought, and disturbs nothing."""
    monkeypatch.setattr(modal_follow, "MAX_BYTES", 10_000)
    session = Session(cloud, ledger)
    session.until(lambda: cloud.calls, "a call")
    cloud.complete("fc-0")
    cloud.files[f"{ATTEMPTS}/{cloud.orders['fc-0'].attempt_id}/checkpoint.pt"] = bytes(20_000)
    assert session.over() == {1: ("done", "counted")}
    assert not list(ledger.path.parent.rglob("checkpoint.pt"))


def test_no_more_calls_wait_on_modal_than_can_be_asked_about(cloud, ledger, monkeypatch):
    """A grid's attempts are not all given at once: each costs a thread here and questions there, and Modal works at
    three of an app."""
    monkeypatch.setattr(modal_backend, "MOST_CALLS", 2)
    session = Session(cloud, ledger, seeds=(1, 2, 3))
    session.until(lambda: len(cloud.calls) == 2 and "waits" in session.controller.cases[2].note, "two calls")
    for _ in range(5):
        session.controller.round()
    assert len(cloud.calls) == 2
    cloud.complete("fc-0")
    session.until(lambda: len(cloud.calls) == 3, "the third")
    session.close()


def test_a_cancelled_call_that_never_began_costs_nothing(cloud, ledger, monkeypatch):
    """It waited for a machine: all that was reserved is given back, and the same submit begins another attempt."""
    monkeypatch.setattr(attached_module, "open_cloud", lambda settings: cloud)
    session, runs_dir = Session(cloud, ledger, terms=TERMS), ledger.path.parent
    session.until(lambda: cloud.calls, "a call")
    mark_sent(ledger, session.asked.submission_id, None)
    session.backend.close()
    session.controller.interrupt()
    session.close()
    assert read_account(ledger).reserved == pytest.approx(30.0)
    sid = session.asked.submission_id
    settings = Settings.resolve({"runs_dir": str(runs_dir)}, {}, runs_dir)
    with attached_module.attached(settings, Sent(sid, (sid,), here=True)) as found:
        assert found.end({session.asked.run_id(1)}) == 1
    assert cloud.cancelled == ["fc-0"]
    account = read_account(ledger)
    assert (account.spent, account.reserved) == (0.0, 0.0)
    again = Session(cloud, ledger)
    again.until(lambda: len(cloud.calls) == 2, "another call")
    assert cloud.orders["fc-1"].number == 2
    again.close()


def test_a_cancel_ends_whichever_call_does_the_work(cloud, ledger):
    """An order was given twice, and the call that we know waits while the other works: that one is ended, too."""
    session = Session(cloud, ledger)
    session.until(lambda: cloud.calls, "a call")
    other = cloud.call(cloud.orders["fc-0"])
    cloud.begin(other)
    follower = next(iter(session.backend.followers.values()))
    until(lambda: follower.handle["call"] == other, "the call that works")
    session.backend.cancel(follower.handle)
    until(lambda: other in cloud.cancelled, "its cancel")
    session.close()


@pytest.mark.parametrize("canary", [True, False])
def test_the_second_attempt_of_a_canary_has_what_follows_it(cloud, ledger, canary):
    """The first one ended for a reason from outside and gave nothing on; with no canary it had given its chain."""
    session = Session(cloud, ledger, seeds=(1, 2), slots=1)
    runs = tuple(session.asked.run_json(run, 1, limits()) for run in session.asked.runs)
    policy = session.asked.policy if canary else None
    session.backend.following = {session.asked.submission_id: Following(runs, policy)}
    session.until(lambda: cloud.calls, "a call")
    cloud.fail("fc-0", "wrong_hardware")
    session.until(lambda: len(cloud.calls) == 2, "a second call")
    chains = [[one["run_id"] for chain in cloud.orders[call].chains for one in chain] for call in ("fc-0", "fc-1")]
    assert chains == [[runs[1]["run_id"]], [runs[1]["run_id"]] if canary else []]
    session.close()


def test_what_another_process_takes_over_is_paid_for_by_its_seconds(cloud, ledger):
    """Between the two nobody follows it, and it looks lost: what it takes is known only once it has ended."""
    first = Session(cloud, ledger, terms=TERMS)
    first.until(lambda: first.controller.cases[0].live is not None, "a call")
    first.backend.close()
    first.controller.interrupt()
    first.close()
    second = Session(cloud, ledger, terms=replace(TERMS, reservation="r2"))
    second.until(lambda: second.controller.cases[0].live is not None, "the same call")
    assert read_account(ledger).spent == 0.0
    cloud.fail("fc-0", "user_error", seconds=100.0)
    assert second.over() == {1: ("stop", "user_error")} and len(cloud.calls) == 1
    assert read_account(ledger).spent == pytest.approx(1.0)


def test_a_deploy_that_takes_too_long_is_told(monkeypatch):
    """An image that is built for ever ends the submit with a message, not with a traceback."""
    monkeypatch.setattr(modal_deploy, "DEPLOY_SECONDS", 0.01)
    with pytest.raises(Unavailable, match="was not deployed within"):
        modal_deploy.deploy(AppOptions(gpu=None), print)


def test_a_look_with_another_account_ends_nothing(cloud, ledger, monkeypatch):
    """Another token is active: that account knows no such call. With the right one again the attempt is followed, and
    not begun a second time."""
    session, runs_dir = Session(cloud, ledger), ledger.path.parent
    session.until(lambda: session.controller.cases[0].live is not None, "a call")
    sid = session.asked.submission_id
    mark_sent(ledger, sid, None)
    session.backend.close()
    session.controller.interrupt()
    session.close()
    other = MemoryCloud()
    other.state = lambda call: CallState(True, cls="worker_lost", message=f"Modal knows no call {call}")
    monkeypatch.setattr(attached_module, "open_cloud", lambda settings: other)
    settings = Settings.resolve({"runs_dir": str(runs_dir)}, {}, runs_dir)
    with attached_module.attached(settings, Sent(sid, (sid,), here=True)) as found:
        assert not found.live
    cloud.complete("fc-0")
    assert Session(cloud, ledger).over() == {1: ("done", "counted")} and len(cloud.calls) == 1


def test_a_lost_machine_is_paid_for_though_nobody_watched(cloud, ledger):
    """It trained until its machine was taken away without a word, and another process reads that: it cost at most its
    deadline, and not nothing."""
    session = Session(cloud, ledger, terms=TERMS)
    session.until(lambda: session.controller.cases[0].live is not None, "a call")
    session.backend.close()
    session.controller.interrupt()
    session.close()
    place = cloud.begin("fc-0")
    cloud.files[f"{place}/{VOID}"] = b'{"class": "preempted", "message": "as a test says"}'
    again = Session(cloud, ledger, terms=replace(TERMS, reservation="r2"))
    again.until(lambda: len(cloud.calls) == 2, "another attempt")
    assert read_account(ledger).spent == pytest.approx(10.0)
    again.close()
