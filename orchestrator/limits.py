"""The deadlines of an attempt, from the policy and the settings."""

from dataclasses import replace

from orchestrator.settings import DEFAULT, Settings
from orchestrator.spec import Limits, Submission

REHEARSAL_SECONDS = 900.0  # all that a rehearsal is given


def limits_of(submission: Submission, settings: Settings) -> Limits:
    policy = submission.policy
    limits = Limits(
        train_s=policy.train_seconds,
        evaluate_s=policy.evaluate_seconds,
        kill_after_s=policy.kill_after_seconds,
        startup_s=settings["startup_seconds"],
        silence_s=_silence(submission, settings),
        dead_man_s=settings["dead_man_seconds"],
    )
    if submission.rehearsal is not None:
        return replace(limits, dead_man_s=min(REHEARSAL_SECONDS, limits.attempt_s))
    return limits


def _silence(submission: Submission, settings: Settings) -> float:
    """Where nobody gave one, a script may be silent for as long as an evaluation: most print nothing in theirs."""
    seconds, policy = float(settings["silence_seconds"]), submission.policy
    if submission.script is None or settings.source("silence_seconds") != DEFAULT:
        return seconds
    return max(seconds, policy.evaluate_seconds + policy.kill_after_seconds)
