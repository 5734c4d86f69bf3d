"""What a submission may cost: expected, and at worst. Pure: seconds and a price in, USD out.

The worst case is a promise that the worker and the ledger keep: an attempt is ended at its last deadline, also where
nobody is left to ask, and no attempt begins that the reservation does not cover. The expected case is an estimate, and
says what it rests on. What is done already costs nothing.
"""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from golf_core.policy import Policy
from orchestrator.money.prices import Price
from orchestrator.policy import MAX_RETRIES
from orchestrator.spec import Submission

ATTEMPTS = 1 + MAX_RETRIES  # of a seed, where nobody gave another number
START_SECONDS = 60.0  # of a stage: interpreter, hardware check, compilation. A guess; the probe alone has some 10
BETWEEN_SECONDS = 60.0  # rounding and compressing: lzma of 16 MB takes most of it
# Seconds of evaluation on the race's eight H100. Together 490 to 530 were published of the recipe that has all three.
EVALUATION_SECONDS = {"roundtrip": 15.0, "sliding": 95.0, "ttt": 400.0}
RACE_GPUS = 8


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Of a seed, by what is known before it has run."""

    train: float  # of a seed from its start to its artifact
    evaluate: float
    how: str

    @property
    def whole(self) -> float:
        return self.train + self.evaluate


def expected_seconds(submission: Submission, ended: Sequence[float] = ()) -> Seconds:
    """`ended`: seconds of seeds of this very submission that are done; nothing tells more than they do."""
    policy, config = submission.policy, submission.config
    if ended:
        mean = math.fsum(ended) / len(ended)
        share = policy.train_seconds / (policy.train_seconds + policy.evaluate_seconds)
        how = f"as {len(ended)} of its seeds took"
        return Seconds(train=mean * share, evaluate=mean * (1 - share), how=how)
    if submission.script is not None:
        return _whole_limits(policy, "a script may use all of its limits")
    most = config.get("train", {}).get("max_seconds")
    if most is None or submission.target.device != "cuda":
        return _whole_limits(policy, "its limits: it ends after so many steps, whatever they take")
    evaluation = math.fsum(EVALUATION_SECONDS[stage] for stage in _stages(config))
    evaluation = min(evaluation * RACE_GPUS / max(1, submission.target.gpus), policy.evaluate_seconds)
    train = START_SECONDS + min(most, policy.train_seconds) + BETWEEN_SECONDS
    return Seconds(train=train, evaluate=START_SECONDS + evaluation, how="the recipe's seconds and published ones")


def _whole_limits(policy: Policy, how: str) -> Seconds:
    return Seconds(train=START_SECONDS + policy.train_seconds, evaluate=policy.evaluate_seconds, how=how)


def _stages(config: Mapping[str, typing.Any]) -> list[str]:
    evaluate, ttt = config.get("evaluate", {}), config.get("ttt", {})
    slides = evaluate.get("stride", 0) < evaluate.get("seq_len", 0)
    return ["roundtrip"] + ["sliding"] * slides + ["ttt"] * (ttt.get("kind", "none") != "none")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one submit of one submission."""

    price: Price
    seconds: Seconds
    attempt_s: float  # the last deadline of an attempt
    attempts: int = ATTEMPTS  # of a seed, that may be paid for
    whole: int = 0  # seeds of which nothing is there yet
    evaluations: int = 0  # seeds whose training is sealed

    @property
    def seeds(self) -> int:
        """That are not done."""
        return self.whole + self.evaluations

    @property
    def free(self) -> bool:
        return self.price.free or not self.seeds

    @property
    def expected_s(self) -> float:
        """Of GPUs, over all seeds; no attempt is given more than its last deadline."""
        whole, evaluate = min(self.seconds.whole, self.attempt_s), min(self.seconds.evaluate, self.attempt_s)
        return self.whole * whole + self.evaluations * evaluate

    @property
    def expected_usd(self) -> float | None:
        return 0.0 if self.free else self.price.usd(self.expected_s)

    @property
    def attempt_usd(self) -> float | None:
        """What an attempt costs at most."""
        return self.price.usd(self.attempt_s)

    @property
    def worst_usd(self) -> float | None:
        return 0.0 if self.free else self.price.usd(self.attempt_s * self.attempts * self.seeds)

    def rows(self) -> list[tuple[str, str, str]]:
        """For the eye: name, value, where the value is from."""
        if self.free:
            why = self.price.source if self.price.free else "all is done already"
            return [("cost", "none" if self.price.free else "nothing more", why.removeprefix("none: "))]
        if self.price.usd_per_hour is None:
            spent = f"{self.expected_s / 3600:.2f} hours of its GPUs expected; at worst {self.most()}"
            return [("time", spent, self.seconds.how), ("cost", self.price.source, "prices.toml")]
        told = f"{usd(self.expected_usd)} expected, {usd(self.worst_usd)} at worst"
        time = f"{min(self.seconds.whole, self.attempt_s) / 60:.0f} min a seed expected; at worst {self.most()}"
        return [("time", time, self.seconds.how), ("cost", told, self.price.describe())]

    def most(self) -> str:
        """In words, what an attempt of each seed may take, and how many there may be."""
        seeds = f"{self.seeds} seed{'s' if self.seeds > 1 else ''}"
        tries = f"{self.attempts} attempt{'s' if self.attempts > 1 else ''}"
        return f"{seeds} x {tries} x {self.attempt_s:,.0f} s"

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            "usd_per_hour": self.price.usd_per_hour,
            "price": self.price.source,
            "seeds": self.seeds,
            "attempts": self.attempts,
            "attempt_seconds": self.attempt_s,
            "expected_seconds": asdict(self.seconds) | {"all": self.expected_s},
            "expected_usd": self.expected_usd,
            "worst_usd": self.worst_usd,
        }


def usd(amount: float | None) -> str:
    """
    >>> usd(31.594), usd(0.0004), usd(1234.5), usd(None)
    ('31.59 USD', 'less than 0.01 USD', '1,234.50 USD', 'not known')
    """
    if amount is None:
        return "not known"
    return "less than 0.01 USD" if 0 < amount < 0.01 else f"{amount:,.2f} USD"


def at_most(amount: float) -> str:
    """
    >>> at_most(31.594), at_most(0.0004)
    ('at most 31.59 USD', 'less than 0.01 USD')
    """
    told = usd(amount)
    return told if told.startswith("less than") else f"at most {told}"
