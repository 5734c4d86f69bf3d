"""What goes wrong on demand, and what the real client and container make of it."""

import pytest
from grpclib import Status

from tests.modal_plane.client import Failed, command
from tests.modal_plane.toy import HELD, call, containers, get, let_go, quiet, running, spawn
from tests.processes import until

pytestmark = [pytest.mark.xdist_group("modal"), pytest.mark.usefixtures("modal_containers")]


def test_a_preempted_input_starts_again_in_a_new_container(plane, client):
    """The code is interrupted, what it commits then is kept, and the same input succeeds elsewhere; both are billed."""
    source = """
import time
starts = "/runs/attempts/starts"
open(starts, "a").write(modal.current_input_id() + "\\n")
attempts.commit()
print("begun", flush=True)
if len(open(starts).readlines()) == 1:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        open(starts + ".end", "w").write("interrupted")
        attempts.commit()
        raise
result = open(starts).read().split() + [open(starts + ".end").read()]
"""
    quiet(plane)  # what still ends after an earlier test is billed too
    before = plane.billed()
    call_id = spawn(client, source)
    running(plane, call_id)
    plane.preempt(call_id)
    one, two, said = get(client, call_id)
    assert one == two and said == "interrupted"
    seen = call(plane, call_id)
    assert len(seen.containers) == 2 and seen.results == ("success",)
    used = [it for it in plane.containers() if it.task_id in seen.containers]
    assert [it.fate for it in used] == ["preempted", ""]
    quiet(plane)
    spent = sum(8 * it.seconds for it in plane.containers() if it.task_id in seen.containers)
    assert plane.billed() - before == pytest.approx(spent)


def test_an_input_over_its_timeout_is_ended_and_says_so(plane, client):
    """A function over its timeout raises FunctionTimeoutError at the caller; its container is killed."""
    brief = "result = modal.Function.from_name('toy', 'brief').spawn('import time; time.sleep(60)').object_id"
    call_id = client.do(brief)
    with pytest.raises(Failed) as late:
        get(client, call_id)
    assert late.value.name == "FunctionTimeoutError"
    quiet(plane)
    assert next(it.fate for it in plane.containers() if it.calls == (call_id,)) == "timeout"


def test_a_lost_request_is_repeated_once_and_a_lost_reply_makes_two_calls(plane, client):
    """The client gets over both by itself; what the server did before its reply was lost stays done."""
    known = {it.call_id for it in plane.calls()}
    plane.faults.lose_request("FunctionMap")
    one = spawn(client, "result = 1")
    assert {it.call_id for it in plane.calls()} - known == {one}
    rule = plane.faults.lose_reply("FunctionMap")
    two = spawn(client, "result = 2")
    made = {it.call_id for it in plane.calls()} - known - {one}
    assert two in made and len(made) == 2 and rule.fired == 1
    assert [get(client, it) for it in sorted(made)] == [2, 2] and get(client, one) == 1


@pytest.mark.chaos
def test_a_duplicate_delivery_runs_twice_and_counts_once(plane, client):
    """An input given to two containers runs in both; its caller sees one result, the first."""
    source = HELD + "result = os.environ['MODAL_TASK_ID']"
    call_id = spawn(client, source)
    running(plane, call_id)
    plane.deliver_twice(call_id)
    running(plane, call_id, containers=2)
    let_go(plane, call_id)
    result = get(client, call_id)
    quiet(plane)
    seen = call(plane, call_id)
    assert len(set(seen.containers)) == 2 and result in seen.containers and seen.results == ("success",)


@pytest.mark.chaos
def test_a_client_outlives_cut_connections_and_after_a_longer_outage_asks_again(plane, client):
    """Who waits for a result notices no cut; an outage beyond the client's three repetitions (0.7 s) is raised.

    The call goes on meanwhile, and the same process gets its result when the server is back.
    """
    call_id = spawn(client, HELD + "result = 5")
    asked = plane.requests("FunctionGetOutputs")
    client.begin(f"result = from_id({call_id!r}).get()")
    until(lambda: plane.requests("FunctionGetOutputs") == asked + 1, "the client's question")
    plane.cut()
    let_go(plane, call_id)
    assert client.finish() == 5 and plane.requests("FunctionGetOutputs") == asked + 2
    call_id = spawn(client, "print('begun', flush=True)\nresult = 6")
    running(plane, call_id)
    with plane.unreachable():
        with pytest.raises(Failed) as cut_off:
            get(client, call_id)
        assert cut_off.value.name == "ConnectionError"
        until(lambda: call(plane, call_id).state == "done", "the container's work")
    assert get(client, call_id) == 6


@pytest.mark.chaos
def test_code_that_will_not_stop_is_killed_when_its_grace_is_over(plane, client):
    """Code that ignores the interrupt of a preemption dies by SIGKILL, what it did not commit with it; then again."""
    source = """
import os, time
kept = "/runs/attempts/" + modal.current_function_call_id()
again = os.path.exists(kept)
open(kept, "w").close()
attempts.commit()
print("begun", flush=True)
while not again:
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        open(kept + ".late", "w").close()
result = sorted(os.listdir("/runs/attempts"))
"""
    call_id = spawn(client, source)
    running(plane, call_id)
    plane.preempt(call_id, grace=0.5)
    seen = get(client, call_id)
    assert call_id in seen and call_id + ".late" not in seen
    quiet(plane)
    killed, _ = containers(plane, call_id)
    assert (killed.fate, killed.exit_code) == ("preempted", 137) and killed.seconds > 0.5


@pytest.mark.chaos
def test_the_input_of_a_stopped_or_lost_container_starts_again_in_another(plane, client):
    """After `modal container stop`, and after its machine is gone without a word."""
    call_id = spawn(client, HELD + "result = 1")
    running(plane, call_id)
    assert command(plane, "container", "stop", "--yes", call(plane, call_id).containers[0]).returncode == 0
    running(plane, call_id, containers=2)
    plane.lose_worker(call_id)
    running(plane, call_id, containers=3)
    let_go(plane, call_id)
    assert get(client, call_id) == 1
    assert [it.fate for it in containers(plane, call_id)] == ["moved", "lost", ""]


@pytest.mark.chaos
def test_a_function_with_retries_runs_again_when_it_raised(plane, client):
    """Of a spawned call the server repeats the input; its caller sees the last result."""
    source = """
import os
tried = "/runs/attempts/" + modal.current_function_call_id()
if not os.path.exists(tried):
    open(tried, "w").close()
    attempts.commit()
    raise ValueError("first")
result = "second"
"""
    client.do("stubborn = toy.with_options(retries=1)")
    call_id = spawn(client, source, "stubborn")
    assert get(client, call_id) == "second" and len(call(plane, call_id).containers) == 2


@pytest.fixture
def kind(plane):
    """The plane while it answers a repeated request with its first answer; it has no GPUs, so nothing starts."""
    plane.set_gpu_capacity(0)
    plane.service.idempotent = True
    yield plane
    plane.service.idempotent = False
    plane.set_gpu_capacity(None)


@pytest.mark.parametrize("fault", ["lose_request", "lose_reply", "cut"])
def test_a_server_that_knows_repeated_requests_tells_the_winner_so(kind, client, fault):
    """With `idempotent=True` a claim and a call are made once, whatever was lost on the way."""
    client.do("claims = modal.Dict.from_name('claims', create_if_missing=True); claims.len()")
    key, made = f"kind:{fault}", len(kind.calls())
    rules = [getattr(kind.faults, fault)(rpc, caller="client") for rpc in ("DictUpdate", "FunctionMap")]
    assert client.do(f"result = claims.put({key!r}, 'mine', skip_if_exists=True)") is True
    call_id = spawn(client, "")
    assert [it.call_id for it in kind.calls()[made:]] == [call_id] and [rule.fired for rule in rules] == [1, 1]
    client.do(f"from_id({call_id!r}).cancel()")
    assert call(kind, call_id).results == ("terminated",)


@pytest.mark.parametrize("fault", ["lose_request", "lose_reply", "cut"])
def test_a_claim_whose_reply_is_lost_looks_lost_to_its_winner(plane, client, fault):
    """The client repeats a put by itself: where the first one arrived, the winner is told that it lost."""
    client.do("claims = modal.Dict.from_name('claims', create_if_missing=True); claims.len()")
    rule = getattr(plane.faults, fault)("DictUpdate", caller="client")
    won = client.do(f"result = claims.put({fault!r}, 'mine', skip_if_exists=True)")
    assert rule.fired == 1 and won is (fault == "lose_request")
    assert client.do(f"result = claims.get({fault!r})") == "mine"


def test_faults_strike_containers_too(plane, client):
    """A container repeats what was lost between it and the server: its input, its commit, its output."""
    quiet(plane)  # a container that waits for an input has asked for it already
    names = ["FunctionGetInputs", "VolumeCommit", "FunctionPutOutputs"]
    rules = [getattr(plane.faults, kind)(name, caller="container") for name in names for kind in ("lose_reply", "cut")]
    source = "open('/runs/attempts/struck', 'w').close(); attempts.commit(); result = 3"
    assert get(client, spawn(client, source)) == 3
    assert [rule.fired for rule in rules] == [1] * len(rules)


def test_a_refusal_is_raised_with_its_message_and_a_delay_is_waited_for(plane, client):
    """RESOURCE_EXHAUSTED is not repeated by the client; UNAVAILABLE is, three times, and is then raised."""
    plane.faults.refuse("FunctionMap", Status.RESOURCE_EXHAUSTED, "too many")
    with pytest.raises(Failed, match="ResourceExhaustedError: too many"):
        spawn(client, "result = 1")
    rule = plane.faults.refuse("FunctionMap", Status.UNAVAILABLE, "busy", times=4)
    with pytest.raises(Failed, match="busy"):
        spawn(client, "result = 1")
    assert rule.fired == 4
    rule = plane.faults.delay("FunctionMap", 0.3)
    assert get(client, spawn(client, "result = 2")) == 2 and rule.fired == 1


def test_results_expire(plane, client):
    """What a call returned is gone after its time; asking for it says so."""
    call_id = spawn(client, "result = 1")
    assert get(client, call_id) == 1
    plane.expire_outputs(call_id)
    with pytest.raises(Failed) as gone:
        get(client, call_id, timeout=0)
    assert gone.value.name == "OutputExpiredError"
