"""Which frontier row the scores of a folder are held against, and why that one: work is judged by what stood then."""

import datetime
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from golf_core.frontier import BEST, Frontier, FrontierRow, load_frontier
from golf_core.policy import Claim

PR_KEYS = ("pr", "pr_number", "pull_request")
SAME_SCORE = 5.1e-6  # BPB: rows that were published with five decimals are known again in logs with eight


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the user named in place of what the policy does."""

    against: str | None = None  # best, or a pull request
    frontier: str | None = None  # a date, or a TOML file

    def frontier_of(self, claim: Claim) -> Frontier:
        """Raises ConfigError."""
        return load_frontier(self.frontier or claim.frontier)


@dataclass(frozen=True, kw_only=True)
class Rival:
    row: FrontierRow | None  # None: there is none to hold it against
    why: str


def rival_of(claim: Claim, asked: Asked, facts: Mapping[str, typing.Any], scores: Sequence[float]) -> Rival:
    """The row that was asked for; else that which the policy names; of `best`, the best that stood before the
    submission's own date. Never the submission itself. Raises ConfigError."""
    frontier = asked.frontier_of(claim)
    word = asked.against or claim.against
    if asked.against is not None or word != BEST:
        row = frontier.find(word)
        if is_itself(row, facts, scores):
            return Rival(row=None, why=f"{row.label} is this submission itself: name another row with --against")
        return Rival(row=row, why="as asked" if asked.against is not None else "the row that the policy names")
    others = [row for row in frontier.rows if row.accepted and not is_itself(row, facts, scores)]
    own = [row.label for row in frontier.rows if row.accepted and row not in others]
    date = date_of(facts)
    before = [row for row in others if date is None or row.date < date]
    if not before:
        return Rival(row=None, why=f"frontier {frontier.name} has no row before {date or 'this one'}: see --against")
    when = f"before its own date, {date}" if date else "of all: the submission tells no date"
    itself = f"; {', '.join(own)} is the submission itself" if own else ""
    return Rival(row=min(before, key=lambda row: row.sample.mean), why=f"the best row {when}{itself}")


def date_of(facts: Mapping[str, typing.Any]) -> str | None:
    """The day that submission.json tells, if it is one."""
    told = facts.get("date")
    if not isinstance(told, str):
        return None
    try:
        return datetime.date.fromisoformat(told[:10]).isoformat()
    except ValueError:
        return None


def is_itself(row: FrontierRow, facts: Mapping[str, typing.Any], scores: Sequence[float]) -> bool:
    """By its pull request, or by the values of its seeds: all of theirs that are here, and of several at least two."""
    told = [re.fullmatch(r"#?(\d{1,7})", str(facts[key])) for key in PR_KEYS if key in facts]
    if row.pr is not None and any(found is not None and int(found[1]) == row.pr for found in told):
        return True
    theirs = [score for _, score in row.scores]
    common = [one for one in scores if any(abs(one - score) < SAME_SCORE for score in theirs)]
    return bool(theirs) and len(common) == len(scores) >= min(2, len(theirs))
