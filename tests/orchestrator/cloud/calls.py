"""A small Modal in one process: claims, calls, containers and a volume, whose every step a test may order, cut or lose.

Who gives an order and who takes one are threads, of which one moves at a time: each stops before and after every
question that it asks, and the next to move is drawn. What may be asked is what orchestrator/cloud/claims.py asks.
"""

import shutil
import threading

from golf_core.rundir import RESULT, RUN, SEAL, TRAIN_SEAL, VOID, write_json, write_seal
from orchestrator.attempts import ATTEMPTS
from orchestrator.cloud.claims import call_once, follow_up, take_turn
from orchestrator.cloud.order import Order, Told
from orchestrator.cloud.starts import Start, append_start, path_of


class Gone(BaseException):
    """The process is killed, or its machine is."""


class Lost(Exception):
    """No answer came, whatever was done."""


class Actor(threading.Thread):
    """Moves when it is told to, to its next stop."""

    def __init__(self, world, work):
        super().__init__(daemon=True)
        self.world, self.work = world, work
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.doomed, self.over, self.loses = False, False, ""
        self.error = None
        self.start()

    def run(self):
        try:
            self.stop()
            self.work(self)
        except (Gone, Lost):
            pass
        except BaseException as error:
            self.error = error
        self.over = True
        self.stopped.release()

    def stop(self):
        self.stopped.release()
        self.go.acquire()
        if self.doomed:
            raise Gone

    def move(self):
        self.stopped.acquire()  # it has come to its stop
        if not self.over:
            self.go.release()
            self.stopped.acquire()
        self.stopped.release()  # and waits there
        if self.error is not None:
            raise self.error

    def kill(self):
        self.doomed = True
        while not self.over:
            self.move()


class Asking:
    """Claims and calls, as one actor sees them."""

    def __init__(self, world, actor):
        self.world, self.actor = world, actor

    def _ask(self, what):
        """A request that may be lost on its way, answered into nothing, or repeated by the client."""
        self.actor.stop()
        how, self.actor.loses = self.actor.loses, ""
        if how == "request":
            raise Lost
        answer = what()
        if how == "repeated":
            answer = what()
        self.actor.stop()
        if how == "reply":
            raise Lost
        return answer

    def claimed(self, key):
        return self._ask(lambda: self.world.claims.get(key))

    def claim(self, key, value):
        self._ask(lambda: self.world.claims.setdefault(key, value))
        return self.claimed(key) or value

    def write(self, key, value):
        self._ask(lambda: self.world.claims.__setitem__(key, value))

    def call(self, order):
        return self._ask(lambda: self.world.call(order))

    def cancel(self, call):
        self._ask(lambda: self.world.cancel(call))


class View:
    """The volume as it was when a container began, and what that has written since."""

    def __init__(self, world, folder):
        self.world, self.folder = world, folder
        shutil.copytree(world.volume, folder)
        self.known = self.files()

    def files(self):
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder): path.read_bytes() for path in found}

    def commit(self, actor):
        """All that it changed or nothing; of one file the last to commit wins."""
        actor.stop()
        now = self.files()
        for name, content in now.items():
            if self.known.get(name) != content:
                (self.world.volume / name).parent.mkdir(parents=True, exist_ok=True)
                (self.world.volume / name).write_bytes(content)
        for name in self.known.keys() - now.keys():
            (self.world.volume / name).unlink(missing_ok=True)
        self.known = now
        actor.stop()


class World:
    """`calls`: id -> order; `state`: queued, running, over; `told`: what each returned."""

    def __init__(self, folder):
        self.folder, self.volume = folder, folder / "volume"
        self.volume.mkdir(parents=True)
        self.claims, self.calls, self.state, self.told = {}, {}, {}, {}
        self.containers, self.call_of, self.submitters = [], {}, []
        self.working = {}  # key -> containers at work under it
        self.begun, self.most = [], 0  # (attempt, container) that used GPUs; how many ever did at once, of one run

    def call(self, order):
        name = f"fc-{len(self.calls)}"
        self.calls[name], self.state[name] = Order.from_dict(order.to_dict()), "queued"
        return name

    def cancel(self, call):
        if self.state[call] == "queued":
            self.state[call] = "over"
        for actor in [one for one in self.containers if self.call_of[one] == call and not one.over]:
            actor.kill()
            self.finish(call, Told("", "cancelled"))

    def submit(self, order):
        """A process that gives an order, and again when it was not answered, as a controller does."""

        def work(actor):
            for _ in range(20):
                try:
                    actor.result = call_once(order, Asking(self, actor))
                    return
                except Lost:
                    continue

        self.submitters.append(Actor(self, work))
        return self.submitters[-1]

    def container(self, call):
        self.state[call] = "running"
        name = f"ta-{len(self.containers)}"
        actor = Actor(self, lambda actor: self._container(actor, call, name))
        self.containers.append(actor)
        self.call_of[actor] = call
        return actor

    def finish(self, call, told):
        if self.state[call] != "over":
            self.state[call], self.told[call] = "over", told

    def take_away(self, actor):
        """Its machine; the order is given to another container."""
        actor.kill()
        call = self.call_of[actor]
        others = [one for one in self.containers if self.call_of[one] == call and not one.over]
        if self.state[call] == "running" and not others:
            self.state[call] = "queued"

    def _container(self, actor, call, name):
        view = View(self, self.folder / name)
        asking, order = Asking(self, actor), self.calls[call]
        for number in range(20):
            try:
                turn = take_turn(order, call, f"{name}.{number}", asking, view.folder)
                break
            except Lost:
                continue
        if isinstance(turn, Told):
            view.commit(actor)
            if turn.duplicate_of is None:
                self.follow(order, asking, turn.cls == "completed")
            self.finish(call, turn)
            return
        self._begin(turn, call, view, actor)
        at_work = self.working.setdefault(turn.key, set())
        try:
            at_work.add(name)
            self.begun.append((turn.key, name))
            self.most = max(self.most, sum(map(len, self.working.values())))
            assert len(at_work) == 1, f"{at_work} work under {turn.key}"
            self._work(turn, view, actor)
        finally:
            at_work.discard(name)
        self.follow(order, asking, True)
        self.finish(call, Told(turn.attempt_id, "completed"))

    def follow(self, order, asking, well):
        for _ in range(20):
            try:
                follow_up(order, asking, well, "")
                return
            except Lost:
                continue

    def _begin(self, order, call, view, actor):
        folder = view.folder / ATTEMPTS / order.attempt_id
        folder.mkdir(parents=True, exist_ok=True)
        if order.stage == "train":
            assert not (folder / RUN).exists(), "a second training in one folder"
            write_json(folder / RUN, dict(order.run))
        start = Start(order.attempt_id, order.number, order.execution, order.stage, call, "now")
        append_start(path_of(view.folder, order.run_id), start)
        view.commit(actor)

    def _work(self, order, view, actor):
        folder = view.folder / ATTEMPTS / order.attempt_id
        (folder / RESULT).unlink(missing_ok=True)
        if order.stage == "train":
            actor.stop()
            write_seal(folder, TRAIN_SEAL, [RUN], {})
            view.commit(actor)
        actor.stop()
        write_json(folder / RESULT, {"class": "completed", "outcome": "completed"})
        write_seal(folder, SEAL, [RUN], {})
        view.commit(actor)

    def settle(self):
        """Nothing goes wrong any more: until nobody has anything left to do."""
        while True:
            waiting = [call for call, state in self.state.items() if state == "queued"]
            for call in waiting:
                self.container(call)
            alive = [one for one in (*self.submitters, *self.containers) if not one.over]
            if not alive and not waiting:
                return
            for actor in alive:
                actor.move()

    def close(self):
        for actor in (*self.submitters, *self.containers):
            actor.kill()

    def sealed(self, run_id):
        """Attempts of a run that count."""
        folders = sorted((self.volume / ATTEMPTS).glob(f"{run_id[:16]}-a*"))
        return [one for one in folders if (one / SEAL).exists() and not (one / VOID).exists()]
