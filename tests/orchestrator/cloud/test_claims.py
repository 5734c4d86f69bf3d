"""Never charged twice, in all orders of what can happen: see tests/orchestrator/cloud/calls.py for the small Modal."""

import random
import tempfile
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cloud.cancels import with_cancel
from orchestrator.cloud.claims import is_in_place
from orchestrator.cloud.order import Order, cancels_of, owner_of, place_of
from orchestrator.spec import attempt_id
from tests.orchestrator.cloud.calls import World

RUNS = ["a" * 64, "b" * 64, "c" * 64]
STEPS = st.integers(0, 2**32).map(lambda seed: drawn(random.Random(seed)))  # lists that hypothesis draws are too short
WHAT = ["move"] * 30 + ["request", "reply", "repeated", "kill", "twice"]


def drawn(draw):
    """What happens, and to whom; a few moves of one actor mostly follow each other."""
    steps = []
    for _ in range(draw.randrange(40)):
        who = draw.randrange(6)
        steps += [(draw.choice(WHAT), who) for _ in range(draw.randrange(1, 8))]
    return steps


def run_json(run_id, number=1):
    names = {"run_id": run_id, "attempt_id": attempt_id(run_id, number), "submission_id": "s" * 64}
    return names | {"attempt": number, "seed": RUNS.index(run_id)}


def order(restarts=9, chains=()):
    return Order(
        app="golf", code="c0de", run=run_json(RUNS[0]), bundle="", stage="train", restarts=restarts, chains=chains
    )


@contextmanager
def small_modal():
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        try:
            yield world
        finally:
            world.close()


def disturb(world, steps, kinds):
    """Move whom the steps name, and let happen to it what they say, of `kinds`."""
    for what, who in steps:
        for call in [call for call, state in world.state.items() if state == "queued"]:
            world.container(call)
        alive = [one for one in (*world.submitters, *world.containers) if not one.over]
        if not alive:
            break
        actor = alive[who % len(alive)]
        if what == "kill" and what in kinds:
            if actor in world.containers:
                world.take_away(actor)
            else:
                actor.kill()
            continue
        if what == "twice" and what in kinds and actor in world.containers:
            world.container(world.call_of[actor])
        if what in ("request", "reply", "repeated"):
            actor.loses = what
        actor.move()


@given(STEPS, st.integers(1, 3))
def test_one_container_works_and_nothing_is_lost(steps, submitters):
    """Submits that race and die, lost requests and replies, machines taken away: one container at a time uses GPUs for
    a run, and in the end one attempt of it counts, whoever is left."""
    with small_modal() as world:
        for _ in range(submitters):
            world.submit(order())
        disturb(world, steps, {"kill"})
        world.submit(order())  # the user tries again
        world.settle()
        assert world.most == 1 and len(world.sealed(RUNS[0])) == 1
        owner = world.claims[owner_of(order().key)]
        assert world.told[owner].duplicate_of is None


@given(STEPS, st.booleans())
def test_a_call_that_is_given_to_two_containers_counts_once(steps, kill):
    """Each works under a key of its own; the one that is late can tell, and one attempt of theirs counts, or, where
    machines are taken away too, the controller's next."""
    with small_modal() as world:
        world.submit(order())
        disturb(world, steps, {"kill", "twice"} if kill else {"twice"})
        world.submit(order())
        world.settle()
        keys = [key for key, _ in world.begun]
        assert len(set(keys)) == len(keys) and (kill or world.sealed(RUNS[0]))
        places = {name: container for name, container in world.claims.items() if name.startswith("at:")}
        late = [key for key, _ in world.begun if not is_in_place(_of(key), places[place_of(key)], _Read(world))]
        assert late == []


@given(STEPS)
def test_what_follows_begins_once_whoever_dies(steps):
    """The containers of a chain give each other's orders: every run of it is trained, one at a time, each once."""
    with small_modal() as world:
        chained = order(chains=((run_json(RUNS[1]), run_json(RUNS[2])),))
        world.submit(chained)
        disturb(world, steps, {"kill"})
        world.submit(chained)
        world.settle()
        assert [len(world.sealed(run)) for run in RUNS] == [1, 1, 1] and world.most == 1


@given(STEPS)
def test_after_a_cancel_nothing_follows(steps):
    """What was known of cancels when an order was given has changed: the rest of its chain never begins."""
    with small_modal() as world:
        world.claims[cancels_of("s" * 64)] = with_cancel("", "7", [RUNS.index(RUNS[1])])
        world.submit(order(chains=((run_json(RUNS[1]),),)))
        disturb(world, steps, {"kill"})
        world.settle()
        assert not world.sealed(RUNS[1]) and not any(key.startswith("b") for key, _ in world.begun)


@given(STEPS, STEPS)
def test_a_cancel_ends_what_is_being_begun_too(steps, more):
    """Somebody says that all is cancelled, and ends the calls that have claims then: of those that were made and not
    claimed yet none uses a GPU."""
    with small_modal() as world:
        world.submit(order(chains=((run_json(RUNS[1]), run_json(RUNS[2])),)))
        disturb(world, steps, {"kill"})
        world.claims[cancels_of("s" * 64)] = with_cancel("", "7", None)
        disturb(world, more, {"kill"})
        for call in {call for name, call in world.claims.items() if name.startswith("fc:")}:
            world.cancel(call)
        done = len(world.begun)
        world.settle()
        assert len(world.begun) == done


@given(st.integers(0, 3), st.integers(0, 40))
def test_a_machine_that_is_taken_away_again_and_again_is_given_up(restarts, at):
    """An order is started as often as it says and once more; then its attempt is void and nobody works."""
    with small_modal() as world:
        world.submit(order(restarts))
        for _ in range(3):
            world.submitters[0].move()
        while not world.submitters[0].over:
            world.submitters[0].move()
        (call,) = world.calls
        for _ in range(restarts + 4):
            if world.state[call] == "over":
                break
            container = world.container(call)
            before = len(world.begun)
            while not container.over and len(world.begun) == before:
                container.move()
            world.take_away(container)
        assert len(world.begun) == restarts + 1 and world.state[call] == "over"
        assert world.told[call].cls == "preempted" and world.sealed(RUNS[0]) == []


@given(STEPS)
def test_forgotten_claims_are_made_up_for_by_the_volume(steps):
    """A week later the dictionary is empty: the same order finds in the volume which call did the work."""
    with small_modal() as world:
        world.submit(order())
        disturb(world, steps, {"kill"})
        world.submit(order())
        world.settle()
        done = len(world.begun)
        world.claims.clear()
        again = world.submit(order())
        world.settle()
        assert len(world.begun) == done and len(world.sealed(RUNS[0])) == 1
        assert world.told[again.result].duplicate_of in world.calls


class _Read:
    def __init__(self, world):
        self.claimed = world.claims.get


def _of(key):
    name, _, execution = key.partition(":")
    run = run_json(RUNS[0], int(name.rpartition("a")[2]))
    return Order(app="golf", code="c0de", run=run, bundle="", stage="train", execution=int(execution))
