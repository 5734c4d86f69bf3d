"""A program that forks controllers and tells how they end: a process a kill, without a second of imports each.

Reads orders from stdin, a JSON line each, answers with a line each. A forked child registers the toy submission and
drives it to its end, as `submit` does; at the point that the order names it kills or stops itself:
{"write": k, "when": before | within | after} the k-th write to the ledger, {"line": k} the k-th line of ours that is
executed. {"total": PATH} writes there how many of both there were.
"""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from orchestrator.backends.fake import FakeBackend
from orchestrator.backends.process import ProcessBackend
from orchestrator.case import lease_of_submission
from orchestrator.controller import Controller
from orchestrator.drive import register
from orchestrator.errors import BackendFailure
from orchestrator.ledger import store as ledger_module
from orchestrator.ledger.store import Ledger
from orchestrator.proc import Owner
from tests.orchestrator.toy import ROOT, limits, submission

WATCHED = (f"{ROOT}/orchestrator/", f"{ROOT}/golf_core/")
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
EXCUSED = 5  # exit code of a controller that another one has replaced


class Point:
    """Counts writes and lines; acts at one of them."""

    def __init__(self, order):
        self.order, self.writes, self.lines = order, 0, 0
        self.signal = SIGNALS[order.get("act", "kill")]

    def at_write(self, when):
        if (self.order.get("write"), self.order.get("when")) == (self.writes, when):
            os.kill(os.getpid(), self.signal)

    def transaction(self, original):
        @contextlib.contextmanager
        def counted(ledger):
            self.writes += 1
            self.at_write("before")
            with original(ledger):
                yield
                self.at_write("within")
            self.at_write("after")

        return counted

    def trace(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.order.get("line"):
                os.kill(os.getpid(), self.signal)
        return self.trace


def drive(order):
    """One controller, from the making of the ledger to the end of the submission."""
    point = Point(order)
    Ledger.transaction = point.transaction(Ledger.transaction)
    if order.get("foreign"):  # nobody can look whether we live
        Owner.me = classmethod(lambda cls: cls("elsewhere", os.getpid(), 1))
    if "patience" in order:
        ledger_module.FOREIGN_PATIENCE = order["patience"]
    runs_dir = Path(order["runs_dir"])
    asked = submission(order["text"], seeds=order["seeds"], data=order["data"])
    backend = FakeBackend(runs_dir) if order["backend"] == "fake" else ProcessBackend(runs_dir)
    if "line" in order or "total" in order:
        sys.settrace(point.trace)
    with Ledger.create(runs_dir) as ledger:
        register(asked, runs_dir, ledger)
        while (lease := ledger.acquire(lease_of_submission(asked.submission_id))) is None:
            time.sleep(0.02)
        made = Controller(
            asked, runs_dir, ledger, lease, lambda: backend, limits(), order["slots"], backend_name=order["backend"]
        )
        made.drive(lambda cases: None, pause=0.0 if order["backend"] == "fake" else 0.02)
        ledger.release(lease)
    sys.settrace(None)
    if "total" in order:
        Path(order["total"]).write_text(json.dumps({"writes": point.writes, "lines": point.lines}))


def forked(order):
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.dup2(os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        drive(order)
        code = 0
    except BackendFailure as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        code = EXCUSED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def main():
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "fork":
            answer = {"pid": forked(order)}
        else:
            status = os.waitpid(order["pid"], os.WUNTRACED)[1]
            answer = {"stopped": os.WIFSTOPPED(status)}
            if not answer["stopped"]:
                answer["code"] = os.waitstatus_to_exitcode(status)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
