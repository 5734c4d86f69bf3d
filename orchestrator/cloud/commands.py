"""status, logs, cancel and fetch of what runs on Modal, from any machine with the account.

Where a process of this machine drives the submission it is asked, as everywhere. Else what the volume of runs has is
laid down here and looked after for as long as the command lasts: a runs folder that never saw the submission will do.
"""

import json
import random
import secrets
import sys
import time
import typing
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orchestrator import commands, errors
from orchestrator.attempts import counted, inspect_all
from orchestrator.cancel import cancel as cancel_here
from orchestrator.cloud.attached import Attached, attached
from orchestrator.cloud.cancels import with_cancel
from orchestrator.cloud.order import cancels_of
from orchestrator.cloud.site import asking, open_cloud
from orchestrator.cloud.there import Sent, with_environment
from orchestrator.cluster.submit import Follower as Shown
from orchestrator.drive import make_overview
from orchestrator.errors import CommandError, UsageError
from orchestrator.finish import finish
from orchestrator.money.cost import usd
from orchestrator.money.spending import Meter
from orchestrator.outcome import worst
from orchestrator.overview import Overview
from orchestrator.registered import submission_of
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS, Submission
from orchestrator.view import make_view

if typing.TYPE_CHECKING:
    from orchestrator.backends.modal_client import Cloud

FOLLOW_SECONDS, REFRESH_SECONDS = 0.5, 5.0
CANCEL_TRIES, CANCELLED_AT_ONCE = 5, 8


def status(settings: Settings, sent: Sent, follow: bool, verbose: bool, as_json: bool) -> int:
    runs_dir = Path(settings["runs_dir"])
    if sent.driven or _all_here(runs_dir, sent):
        return commands.status(runs_dir, sent.name, follow, verbose, as_json)
    try:
        with attached(settings, sent) as found:
            if follow:
                _follow(found, sys.stderr if as_json else sys.stdout)
                found.settle()
            return commands.status(runs_dir, _name(found, sent), False, verbose, as_json)
    except CommandError as error:
        if not sent.here or error.exit_code != errors.BACKEND:
            raise
        print(f"error: {error}\nwhat this machine knows of it:", file=sys.stderr)
        commands.status(runs_dir, sent.name, False, verbose, as_json)
        return errors.BACKEND


def _name(found: Attached, sent: Sent) -> str:
    """By which the runs folder knows it now."""
    return found.submissions[0].submission_id if len(found.submissions) == 1 else str(sent.name)


def _all_here(runs_dir: Path, sent: Sent) -> bool:
    """Whether every seed was brought home: nobody has to be asked then."""
    submissions = [submission_of(runs_dir, sid) for sid in sent.submission_ids]
    runs = [run.run_id for one in submissions for run in one.runs]
    return sent.here and all(counted(inspect_all(runs_dir, run_id)) is not None for run_id in runs)


def _follow(found: Attached, stream: typing.TextIO) -> None:
    """Until nothing of it lives on Modal."""
    view, refreshed = make_view(stream), time.monotonic()
    shown, overviews = (
        Shown(None, view, len(found.submissions) > 1),
        [_overview(found, one) for one in found.submissions],
    )
    try:
        while found.live:
            for one, overview in zip(found.submissions, overviews, strict=True):
                shown.show(one.submission_id, one.recipe, overview.rows(controlled=True))
            time.sleep(FOLLOW_SECONDS)
            if time.monotonic() - refreshed > REFRESH_SECONDS or not found.live:
                found.refresh()
                refreshed = time.monotonic()
    finally:
        view.close()


def _overview(found: Attached, submission: Submission) -> Overview:
    return make_overview(submission, found.runs_dir, Meter(found.ledger, submission.submission_id))


def logs(settings: Settings, sent: Sent, seed: int | None, attempt: int | None, follow: bool, tail: int | None) -> int:
    runs_dir = Path(settings["runs_dir"])
    if sent.driven or _all_here(runs_dir, sent):
        return commands.logs(runs_dir, sent.name, seed, attempt, follow, tail)
    with attached(settings, sent) as found:
        goes_on = (lambda: bool(found.live)) if follow else None
        return commands.logs(runs_dir, _name(found, sent), seed, attempt, follow, tail, goes_on)


def cancel(settings: Settings, sent: Sent, seeds: tuple[int, ...] | None) -> int:
    """End calls, and what would follow them. Whoever drives it elsewhere hears of it."""
    runs_dir = Path(settings["runs_dir"])
    if sent.driven:
        with asking():
            cloud = open_cloud(with_environment(settings, sent))
            _write_cancels(cloud, sent.submission_ids, seeds)
        return cancel_here(runs_dir, sent.name, seeds)
    with attached(settings, sent) as found:
        wanted = {run_id for one in found.submissions for run_id in _wanted(one, seeds)}
        with asking():
            _write_cancels(found.cloud, [one.submission_id for one in found.submissions], seeds)
        ended = found.end(wanted)
        freed = found.settle()
    also = f"; {usd(freed)} that were reserved are given back" if freed > 0 else ""
    calls = f"{ended} call{'s' if ended != 1 else ''}"
    what = f"cancelled {calls}; the same submit goes on with it" if ended else "nothing of it was running"
    print(f"{_name(found, sent)[:SUBMISSION_DIGITS]}: {what}{also}", file=sys.stderr)
    return errors.OK


def _wanted(submission: Submission, seeds: Sequence[int] | None) -> list[str]:
    if seeds is not None and (foreign := [seed for seed in seeds if seed not in submission.seeds]):
        there = ", ".join(map(str, submission.seeds))
        raise UsageError(f"seed {foreign[0]} is not of this submission; there are {there}")
    return [run.run_id for run in submission.runs if seeds is None or run.seed in seeds]


def _write_cancels(cloud: "Cloud", submission_ids: Sequence[str], seeds: Sequence[int] | None) -> None:
    """A grid has many."""
    with ThreadPoolExecutor(CANCELLED_AT_ONCE) as pool:
        list(pool.map(lambda sid: _write_cancel(cloud, sid, seeds), submission_ids))


def _write_cancel(cloud: "Cloud", submission_id: str, seeds: Sequence[int] | None) -> None:
    key, mine = cancels_of(submission_id), secrets.token_hex(6)
    for _ in range(CANCEL_TRIES):  # of two that cancel at once one may write over what the other wrote
        cloud.write(key, with_cancel(cloud.claimed(key) or "", mine, seeds))
        time.sleep(random.uniform(0.05, 0.2))
        if mine in (cloud.claimed(key) or ""):
            return


def fetch(settings: Settings, sent: Sent, as_json: bool, quiet: bool) -> int:
    """Bring what is sealed, make the tables. What still runs is not disturbed."""
    if sent.driven:
        raise UsageError("a process of this machine drives it, and brings home what ends; `status -f` shows it")
    with attached(settings, sent) as found:
        done = [finish(one, found.ledger, as_json or quiet) for one in found.submissions]
    if as_json:
        told = [outcome.to_dict() for outcome in done]
        print(json.dumps({"schema_version": 1} | (told[0] if len(told) == 1 else {"submissions": told})))
    elif quiet:
        print(*[outcome.submission.submission_id for outcome in done], sep="\n")
    return worst(outcome.exit_code for outcome in done)
