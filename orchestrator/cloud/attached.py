"""Submissions on Modal that are looked after here for a while: what lives is followed, leaving ends nothing."""

import contextlib
import sys
import time
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.attempts import NODE, counted, inspect_all
from orchestrator.backends.base import BackendError
from orchestrator.cloud.order import claim_of, execution_key
from orchestrator.cloud.site import asking, open_cloud
from orchestrator.cloud.there import Sent, lay_down, mark_sent, published, with_environment
from orchestrator.drive import register
from orchestrator.errors import BackendFailure, CommandError
from orchestrator.ledger.store import Ledger
from orchestrator.money.budget import account
from orchestrator.money.spending import settle
from orchestrator.registered import submission_of, write_grid
from orchestrator.settings import Settings
from orchestrator.spec import Submission, attempt_id

if typing.TYPE_CHECKING:
    from orchestrator.backends.modal_client import Cloud
    from orchestrator.backends.modal_follow import Follower

FIRST_LOOK_SECONDS = 30.0
END_SECONDS = 60.0  # in which nothing more has ended


class Attached:
    def __init__(self, cloud: "Cloud", submissions: Sequence[Submission], ledger: Ledger) -> None:
        from orchestrator.backends.modal_backend import ModalBackend

        self.cloud, self.submissions = cloud, submissions
        self.ledger, self.runs_dir = ledger, ledger.path.parent
        for one in submissions:
            register(one, self.runs_dir, ledger)
            mark_sent(ledger, one.submission_id, cloud.access.environment)
        self.backend = ModalBackend(self.runs_dir, cloud, _tell)

    @property
    def run_ids(self) -> list[str]:
        return [run.run_id for one in self.submissions for run in one.runs]

    def look(self) -> None:
        """Take up what is on Modal and may have more than is here, and wait for a first look at it."""
        with asking():
            lay_down(self.submissions, self.cloud, self.ledger)
            for run_id in self.run_ids:
                for attempt in inspect_all(self.runs_dir, run_id):
                    if attempt.state == "lost" and (attempt.folder / NODE).exists():
                        self.backend.find(attempt.attempt_id)
        until = time.monotonic() + FIRST_LOOK_SECONDS
        for follower in list(self.backend.followers.values()):
            follower.looked.wait(max(0.0, until - time.monotonic()))

    def refresh(self) -> None:
        """What began since; where that cannot be asked now, later."""
        with contextlib.suppress(BackendFailure):
            self.look()

    @property
    def live(self) -> "list[Follower]":
        """Of attempts at which a call still works, or waits to."""
        return [one for one in self.backend.followers.values() if not one.state.over]

    def end(self, run_ids: set[str]) -> int:
        """Cancel the calls of these runs, and wait until they have ended; how many there were."""
        ours = [one for one in self.live if str(one.handle["run"]) in run_ids]
        for follower in ours:
            follower.cancel()
        with asking():
            waiting = [call for run_id in run_ids for call in self._unbegun(run_id)]
            for call in waiting:
                self.cloud.cancel(call)
        until, left = time.monotonic() + END_SECONDS, len(ours)
        while still := sum(not one.state.over for one in ours):
            if still < left:
                until, left = time.monotonic() + END_SECONDS, still
            if time.monotonic() > until:
                raise BackendFailure(
                    f"{still} calls have not ended within {END_SECONDS:g} s; Modal was asked to end them"
                )
            time.sleep(0.1)
        return len(ours) + len(waiting)

    def settle(self) -> float:
        """Write down what has ended; USD that nothing needs any more. Of a submission that has calls which wait for a
        machine all of it may still be needed."""
        return settle([one for one in self.submissions if not self._waits(one)], self.ledger)

    def _waits(self, submission: Submission) -> bool:
        paid = account(self.ledger.events(submission_id=submission.submission_id)).of(submission.submission_id)
        if all(one.released for one in paid):
            return False
        try:
            return any(call for run in submission.runs for call in self._unbegun(run.run_id))
        except (BackendError, CommandError):
            return True  # nobody can tell now

    def _unbegun(self, run_id: str) -> Iterator[str]:
        """Calls that wait for a container: there is no folder of them yet, their claims tell."""
        there = inspect_all(self.runs_dir, run_id)
        if counted(there) is not None:
            return
        keys = [execution_key(attempt_id(run_id, 1 + max((one.number for one in there), default=0)), 0)]
        if there and there[-1].train_sealed:
            keys += [execution_key(there[-1].attempt_id, execution) for execution in range(1, 10)]
        known = {follower.handle["call"] for follower in self.backend.followers.values()}
        for key in keys:
            call = self.cloud.claimed(claim_of(key))
            if call is not None and call not in known and not self.cloud.state(call).over:
                yield call


@contextlib.contextmanager
def attached(settings: Settings, sent: Sent) -> Iterator[Attached]:
    """Raises CommandError where Modal cannot be asked, or does not know it: then nothing is made here."""
    runs_dir, cloud = Path(settings["runs_dir"]), open_cloud(with_environment(settings, sent))
    if sent.here:
        submissions = [submission_of(runs_dir, sid) for sid in sent.submission_ids]
    else:
        with asking():
            submissions = published(cloud, sent.name)
    with Ledger.create(runs_dir) as ledger:
        if not sent.here and len(submissions) > 1:
            write_grid(ledger, str(sent.name), [one.submission_id for one in submissions])
        found = Attached(cloud, submissions, ledger)
        try:
            found.look()
            yield found
        finally:
            found.backend.close()
        found.settle()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
