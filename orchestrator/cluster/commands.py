"""status, logs, cancel and fetch of a submission on a cluster: from the machine that sent it, or from any other."""

import itertools
import json
import os
import sys
import typing
from pathlib import Path

from orchestrator import commands, errors
from orchestrator.backends.job_server import JobServer
from orchestrator.cancel import cancel as cancel_here
from orchestrator.cluster.address import read_address
from orchestrator.cluster.order import order_key
from orchestrator.cluster.remote import Answer, Head, control_command
from orchestrator.cluster.submit import Follower, follow
from orchestrator.cluster.transfer import Seen, check_made_here, sealed_here
from orchestrator.cluster.transfer import fetch as fetch_attempts
from orchestrator.drive import register
from orchestrator.errors import BackendFailure, CommandError
from orchestrator.finish import finish
from orchestrator.ledger.store import Ledger
from orchestrator.other_seeds import Asked
from orchestrator.outcome import worst
from orchestrator.overview import Overview
from orchestrator.place import REMOTE, Place, remembered
from orchestrator.registered import grids, meant, runs_of, spec_of, write_grid
from orchestrator.settings import Settings
from orchestrator.spec import Submission
from orchestrator.view import make_view


def open_head(place: Place, insecure: bool) -> Head:
    address = read_address(place.url, os.environ, insecure, place.source)
    if address.warning:
        print(f"warning: {address.warning}", file=sys.stderr)
    return Head(JobServer(address), place.state_dir)


def _pass_on(answer: Answer) -> int:
    """What a command on the head printed is what we print."""
    for line in answer.text:
        print(line, file=sys.stderr)
    sys.stdout.buffer.write(answer.data)
    sys.stdout.flush()
    return answer.code


def status(settings: Settings, place: Place, follow_it: bool, verbose: bool, as_json: bool, insecure: bool) -> int:
    runs_dir = Path(settings["runs_dir"])
    if place.here and _all_here(runs_dir, str(place.submission)):
        return commands.status(runs_dir, place.submission, False, verbose, as_json)
    try:
        head = open_head(place, insecure)
        if follow_it:
            _follow(head, settings, place, sys.stderr if as_json else sys.stdout)
        return _pass_on(head.command("status", submission=place.submission, verbose=verbose, json=as_json))
    except CommandError as error:
        if not place.here or error.exit_code != errors.BACKEND:
            raise
        print(f"error: {error}\nwhat this machine knows of it:", file=sys.stderr)
        commands.status(runs_dir, place.submission, False, verbose, as_json)
        return errors.BACKEND


def _all_here(runs_dir: Path, submission: str) -> bool:
    """Whether every seed was brought home: nobody has to be asked then."""
    with Ledger.open(runs_dir) as ledger:
        sids = meant(ledger, submission)
    runs = [run for sid in sids for run in runs_of(spec_of(runs_dir, sid))]
    return all(row.state == "done" for row in Overview(runs_dir, runs).rows(controlled=False))


def _follow(head: Head, settings: Settings, place: Place, stream: typing.TextIO) -> None:
    """Until its controller has ended. What it tells goes into the ledger where the submission is known there."""
    seen = head.look(place.submission)
    if not seen.job or (job := head.server.info(seen.job)) is None or job.over:
        return
    view = make_view(stream)
    ledger = Ledger.open(Path(settings["runs_dir"])) if place.here else None
    try:
        if not follow(head, job.job, Follower(ledger, view, seen.several)):
            view.note(f"the controller {job.job} is gone; the same submit starts another one")
    finally:
        view.close()
        if ledger is not None:
            ledger.close()


def logs(place: Place, seed: int | None, attempt: int | None, follow_it: bool, tail: int | None, insecure: bool) -> int:
    head = open_head(place, insecure)
    asked = {"submission": place.submission, "seed": seed, "attempt": attempt, "tail": tail, "follow": follow_it}
    return head.stream(control_command("logs", head.state_dir, **asked), _write, _tell)  # it may be longer than memory


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def cancel(settings: Settings, place: Place, seeds: tuple[int, ...] | None, insecure: bool) -> int:
    head, runs_dir = open_head(place, insecure), Path(settings["runs_dir"])
    asked = None if seeds is None else list(seeds)
    answer = head.command("cancel", submission=place.submission, seeds=asked)
    if place.here and answer.code == errors.USAGE:  # seeds that are not of it, or the head has not heard of it
        return _cancel_unheard(head, place, runs_dir, seeds)
    code = _pass_on(answer)
    if place.here and code == errors.OK:  # what it cost, and what is given back, counts here
        seen = head.look(place.submission)
        with Ledger.open(runs_dir) as ledger:
            ledger.replicate(seen.origin, seen.events)
    return code


def _cancel_unheard(head: Head, place: Place, runs_dir: Path, seeds: tuple[int, ...] | None) -> int:
    """What was reserved here for a controller that never began is given back."""
    with Ledger.open(runs_dir) as ledger:
        sids = meant(ledger, place.submission)
    if job := head.live(order_key(sids)):
        raise BackendFailure(f"{place.submission}: its controller, job {job}, has not begun; cancel again when it has")
    code = cancel_here(runs_dir, place.submission, seeds)
    print(f"{head.server.url} has not heard of it", file=sys.stderr)
    return code


def fetch(settings: Settings, place: Place, as_json: bool, quiet: bool, insecure: bool) -> int:
    """Bring what is sealed into the runs folder, which may never have seen the submission, and make its tables."""
    runs_dir = Path(settings["runs_dir"])
    head = open_head(place, insecure)
    seen = head.look(place.submission, sealed_here(runs_dir))
    brought = list[Submission]()
    with Ledger.create(runs_dir) as ledger:
        if seen.variants and seen.variants != tuple(grids(ledger).get(str(place.submission), ())):
            write_grid(ledger, str(place.submission), seen.variants)
        asked = Asked(runs_dir)
        for part in itertools.chain([seen], head.look_at(seen.variants[1:], sealed_here(runs_dir))):
            brought += _bring(part, head, ledger, asked)
        done = [finish(submission, ledger, as_json or quiet) for submission in brought]
    if as_json:
        told = [outcome.to_dict() for outcome in done]
        print(json.dumps({"schema_version": 1} | ({"submissions": told} if seen.variants else told[0])))
    elif quiet:
        print(*[outcome.submission.submission_id for outcome in done], sep="\n")
    return worst(outcome.exit_code for outcome in done)


def _bring(seen: Seen, head: Head, ledger: Ledger, asked: Asked) -> list[Submission]:
    """Attempts, events and the folders of what was looked at."""
    submissions, runs_dir = seen.submissions(), ledger.path.parent
    check_made_here(runs_dir, [run.run_id for one in submissions for run in one.runs], seen.origin)
    ledger.replicate(seen.origin, seen.events)
    for submission in submissions:
        register(submission, runs_dir, ledger, asked)
        if remembered(ledger, submission.submission_id) is None:
            data = {"address": head.server.url, "state_dir": head.state_dir}
            ledger.append(REMOTE, submission_id=submission.submission_id, data=data)
    fetch_attempts(seen, runs_dir, ledger, head.send, _tell)
    return submissions
