"""Submits to a real cluster from a machine of their own: a runs folder, a HOME, and the address of the job server."""

import json
import os
import sys
from dataclasses import dataclass, field

from tests.orchestrator.toy import MARK, ROOT, TOY, Bench

PATIENCE = 240.0


@dataclass
class Laptop(Bench):
    """A bench whose submits go to `cluster`; `address` may be one of a proxy before it."""

    patience = PATIENCE
    cluster: object = None
    address: str = ""
    gpus: str = "H100:8"
    seeds: str = "1,2"
    flags: tuple = field(default_factory=tuple)

    def __post_init__(self):
        super().__post_init__()
        self.address = self.address or self.cluster.address
        self.home = self.folder / "home"
        self.home.mkdir(exist_ok=True)
        self.state = self.cluster.folder / f"state-{self.mark[:8]}"

    def environment(self):
        return self.cluster.environment(self.home) | {MARK: self.mark} | self.extra_env

    def command(self, verb, *arguments):
        given = ["--runs-dir", str(self.runs_dir)]
        if verb == "submit":
            given += [
                "--on",
                "ray",
                "--gpus",
                self.gpus,
                "--seeds",
                self.seeds,
                "--launcher",
                "python",
                *self.program(),
            ]
            given += ["--node-dir", str(self.state.with_name(f"node-{self.mark[:8]}")), *self.flags]
        if "--address" not in arguments and verb in ("submit", "fetch"):
            given += ["--address", self.address, "--state-dir", str(self.state)]
        return [sys.executable, *self.starter(), verb, *given, *map(str, arguments)]

    def there(self, *arguments, verb):
        """The verb from a machine that knows nothing but the address."""
        return self._elsewhere().run(*self._place(), *arguments, verb=verb)

    def start_there(self, *arguments, verb):
        return self._elsewhere().start(*self._place(), *arguments, verb=verb)

    def _elsewhere(self):
        (folder := self.folder / "elsewhere").mkdir(exist_ok=True)
        return Laptop(folder, self.corpus, cluster=self.cluster)

    def _place(self):
        return "--address", self.address, "--state-dir", str(self.state)

    def controllers(self):
        """Names of the controller jobs on the cluster, of earlier tests too."""
        return [
            name for name in self.cluster.jobs() if name.startswith("golf-") and not name.startswith("golf-command")
        ]


def scores(runs_dir):
    """Bytes of scores.json of each counted attempt, by seed."""
    found = {}
    for folder in sorted((runs_dir / "attempts").glob("*-a*")):
        if (folder / "MANIFEST.json").exists() and not (folder / "VOID.json").exists():
            found[json.loads((folder / "run.json").read_text())["seed"]] = (folder / "scores.json").read_bytes()
    return found


def interrupt_default(command):
    """As a terminal starts it: Ctrl-C is heard, although a job of a script's background ignores it."""
    script = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", script, *command]


__all__ = ["PATIENCE", "ROOT", "TOY", "Laptop", "interrupt_default", "os", "scores"]
