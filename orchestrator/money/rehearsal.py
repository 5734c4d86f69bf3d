"""The rehearsal: code that never ran on a GPU runs on one of them, a few steps end to end, before all are rented.

It is a submission like any other, of a bundle with the same parts: few steps, a short piece of the validation text, and
a mark that nothing of it is a score. That it went well is an event in the ledger, by the hash of the parts, so that
another value of a field does not rehearse again.
"""

import hashlib
import re
import typing
from dataclasses import dataclass, replace
from pathlib import Path

from golf_core.bundle_pack import readable_source
from golf_core.config import Config
from golf_core.config_io import to_dict
from orchestrator.catalogue import build
from orchestrator.ledger.store import FILE, Ledger
from orchestrator.limits import REHEARSAL_SECONDS
from orchestrator.money.cost import Cost, Seconds, usd
from orchestrator.money.prices import Price
from orchestrator.spec import Submission

REHEARSED = "rehearsed"  # event
STEPS, WARMUP_STEPS = 4, 2
VALIDATION_TOKENS = 65_536  # two chunks of test-time training, 32 windows of 2,048
EXPECTED_SECONDS = 240.0  # most of it compilation, of two stages. A guess: it was timed on no GPU
# What differs from run to run in a bundle: its title, and the values of the config at its end.
CONFIG = re.compile(r"^CONFIG = .*?^\)$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Rehearsal:
    """What goes first: `submission` of one seed on one GPU; or None, and `why` there is no rehearsal."""

    why: str
    submission: Submission | None = None
    cost: Cost | None = None

    def rows(self) -> list[tuple[str, str, str]]:
        if self.cost is None:
            return [("rehearsal", f"none: {self.why}", "default")]
        known = self.cost.price.usd_per_hour is not None
        amount = (
            f"{usd(self.cost.expected_usd)} expected, {usd(self.cost.worst_usd)} at worst" if known else "not known"
        )
        return [("rehearsal", f"{self.why}: {amount}", "--no-rehearsal leaves it out")]

    def to_dict(self) -> dict[str, typing.Any]:
        return {"why": self.why, "cost": None if self.cost is None else self.cost.to_dict()}


def parts_sha256(bundle: str) -> str:
    """Of the code of a bundle, whatever its config says."""
    source = readable_source(bundle)
    _, _, code = source.partition('"""\n')  # the title names the recipe
    return hashlib.sha256(CONFIG.sub("", code, count=1).encode()).hexdigest()


def has_run(runs_dir: Path, submission: Submission) -> bool:
    """Whether this code was rehearsed on such a GPU, by the ledger of a runs folder that may not be there yet."""
    return Rehearsed(runs_dir).has(submission)


class Rehearsed:
    """The code that ran on a GPU, or that a plan has run first: read once for all variants of a grid."""

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._keys: set[str] | None = None

    def has(self, submission: Submission) -> bool:
        """Whether it was there; the next of the same code finds it there."""
        if self._keys is None:
            self._keys = set()
            if (self._runs_dir / FILE).exists():
                with Ledger.open(self._runs_dir) as ledger:
                    self._keys.update(str(event.data.get("key")) for event in ledger.events(kind=REHEARSED))
        key = key_of(submission)
        was_there = key in self._keys
        self._keys.add(key)
        return was_there


def key_of(submission: Submission) -> str:
    """Code and GPU model. A GPU that is only declared proves nothing for a real one."""
    simulated = submission.target.device == "cpu"
    return f"{parts_sha256(submission.bundle)} {'simulated' if simulated else submission.target.gpu}"


def write_rehearsed(ledger: Ledger, rehearsal: Submission) -> None:
    ledger.append(REHEARSED, submission_id=rehearsal.submission_id, data={"key": key_of(rehearsal)})


def plan_rehearsal(
    submission: Submission,
    config: Config | None,
    cost: Cost,
    *,
    wanted: bool,
    known: bool,
    beside: float = 0.0,
) -> Rehearsal | None:
    """What goes first; None where there is nothing to say, since nothing is paid for. `known`: this code has run on
    such a GPU; `beside`: seconds that are paid for beyond an attempt's deadline.
    `config` is None where no config tells how the program could be shortened."""
    if cost.free or not submission.target.gpus:
        return None
    if not wanted:
        return Rehearsal("--no-rehearsal")
    if known:
        return Rehearsal("this code has run on such a GPU")
    if submission.script is not None:
        return Rehearsal("a script runs as it is, and nobody but its author can shorten it")
    if config is None:
        return Rehearsal("an edited bundle has its config in it, and cannot be shortened from here")
    gpus = submission.target.gpus
    hourly = cost.price.usd_per_hour
    price = cost.price if hourly is None else Price(hourly / gpus, f"one of {gpus} GPUs: {cost.price.source}")
    seconds = Seconds(train=EXPECTED_SECONDS / 2, evaluate=EXPECTED_SECONDS / 2, how="a guess")
    most = min(REHEARSAL_SECONDS + beside, cost.attempt_s)
    mine = Cost(price=price, seconds=seconds, attempt_s=most, attempts=cost.attempts, whole=1)
    why = f"first {STEPS} steps end to end on one GPU, since this code never ran on one"
    return Rehearsal(why, _shortened(submission, config), mine)


def _shortened(submission: Submission, config: Config) -> Submission:
    train = replace(
        config.train,
        iterations=STEPS,
        warmup_steps=min(WARMUP_STEPS, config.train.warmup_steps),
        val_every=0,
        log_every=1,
    )
    short = replace(config, name=f"{config.name}.rehearsal", train=train, diagnostic_only=True)
    return replace(
        submission,
        recipe=short.name,
        seeds=submission.seeds[:1],
        target=replace(submission.target, gpus=1, processes=1),
        config=to_dict(short),
        bundle=build(short),
        published=None,
        grid=None,
        base=None,
        rehearsal={"of": submission.submission_id, "validation_tokens": VALIDATION_TOKENS},
    )
