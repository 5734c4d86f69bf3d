"""An account on Modal in memory, for tests of what drives and follows attempts there: calls that end when a test says
so, claims, and a volume of files. Counts what it was asked."""

import hashlib
import json
from collections import Counter
from types import SimpleNamespace

from golf_core.rundir import ARTIFACT, RESULT, RUN, SEAL, TRAIN_SEAL
from orchestrator.attempts import ATTEMPTS, NODE
from orchestrator.backends.modal_client import CallState, CloudError
from orchestrator.cloud.order import Told


class MemoryCloud:
    def __init__(self):
        self.claims, self.files, self.calls, self.orders, self.cancelled = {}, {}, {}, {}, []
        self.asked, self.fails = Counter(), Counter()  # by question; of each, so many fail from now on
        self.access = SimpleNamespace(environment=None)

    def _ask(self, what):
        self.asked[what] += 1
        if self.fails[what] > 0:
            self.fails[what] -= 1
            raise CloudError(f"Modal: {what} is not answered")

    # What orchestrator/backends/modal_client.py gives

    def claimed(self, key):
        self._ask("claimed")
        return self.claims.get(key)

    def claim(self, key, value):
        self._ask("claim")
        return self.claims.setdefault(key, value)

    def write(self, key, value):
        self._ask("write")
        self.claims[key] = value

    def has(self, app, function):
        self._ask("has")
        return True

    def call(self, order):
        self._ask("call")
        name = f"fc-{len(self.calls)}"
        self.calls[name], self.orders[name] = CallState(False), order
        return name

    def cancel(self, call):
        self._ask("cancel")
        self.cancelled.append(call)
        self.end(call, cls="cancelled")

    def state(self, call):
        self._ask("state")
        return self.calls[call]

    def listing(self, path, volume=None):
        self._ask("listing")
        return {name: (len(data), 1) for name, data in self._below(path) if "/" not in name}

    def folders(self, path, volume=None):
        self._ask("folders")
        return sorted({name.partition("/")[0] for name, _ in self._below(path) if "/" in name})

    def read(self, path, volume=None):
        self._ask("read")
        return self.files.get(path)

    def put(self, files, volume=None):
        self._ask("put")
        self.files.update(files)

    def _below(self, path):
        return [
            (name.removeprefix(f"{path}/"), data) for name, data in self.files.items() if name.startswith(f"{path}/")
        ]

    # What a test says

    def begin(self, call):
        """Its container lays the attempt down."""
        order = self.orders[call]
        place = f"{ATTEMPTS}/{order.attempt_id}"
        self.files[f"{place}/{NODE}"] = json.dumps({"call": call, "execution": order.execution}).encode()
        self.files[f"{place}/{RUN}"] = json.dumps(dict(order.run)).encode()
        self.claims[f"fc:{order.key}"] = self.claims[f"own:{order.key}"] = call
        return place

    def end(self, call, told=None, cls="", message=""):
        self.calls[call] = CallState(True, told, cls, message)

    def fail(self, call, cls, stage="train", seconds=60.0):
        """The attempt ends with a result."""
        place = self.begin(call)
        said = {"outcome": "failed", "class": cls, "stage": stage, "message": "as a test says"}
        self.files[f"{place}/{RESULT}"] = json.dumps(said).encode()
        self.end(call, Told(self.orders[call].attempt_id, cls, "", seconds))

    def complete(self, call, seconds=60.0):
        """The attempt ends well, under its seals."""
        place = self.begin(call)
        self.files[f"{place}/{ARTIFACT}"] = b"artifact"
        self.files[f"{place}/{RESULT}"] = json.dumps({"outcome": "completed", "class": "completed"}).encode()
        for seal, names in ((TRAIN_SEAL, (RUN, ARTIFACT)), (SEAL, (RUN, ARTIFACT, RESULT))):
            self.files[f"{place}/{seal}"] = self.seal(place, names)
        self.end(call, Told(self.orders[call].attempt_id, "completed", "", seconds))

    def seal(self, place, names):
        told = {}
        for name in names:
            content = self.files[f"{place}/{name}"]
            told[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        return json.dumps({"schema_version": 1, "files": told}).encode()
