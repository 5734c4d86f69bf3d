"""What the probes of one evaluator found, for the eye, for a review comment, and as JSON."""

import typing
from dataclasses import asdict, dataclass

from results.audit.finding import PASS
from results.audit.probe.outcome import Outcome, gravest_of
from results.untrusted import plain
from results.verbs.shared import filled

SCHEMA_VERSION = 1
NAME_WIDTH = 14
CAVEAT = (
    "Probes ask an evaluator about streams of tokens and compare its answers. They show what its scores depend on, on "
    "this stream. They do not show what went into the artifact, nor what an evaluator does that knows it is probed."
)


@dataclass(frozen=True)
class Probed:
    """One artifact's evaluator, and what each probe said of it."""

    what: str  # file or attempt
    seed: int | None
    stream: dict[str, typing.Any]  # tokens, documents, SHA-256, from where
    outcomes: tuple[Outcome, ...]
    seconds: float

    @property
    def verdict(self) -> str:
        return gravest_of(self.outcomes)

    @property
    def runs(self) -> int:
        return sum(one.runs for one in self.outcomes)

    @property
    def says(self) -> str:
        """One sentence: the gravest probe's, or what was looked at."""
        grave = [one for one in self.outcomes if one.verdict == self.verdict]
        if self.verdict != PASS:
            return f"{grave[0].name} ({grave[0].check}): {grave[0].says}"
        names = ", ".join(one.name for one in self.outcomes)
        return f"no violation found by {names} on {self.stream['tokens']:,} tokens in {self.runs:,} runs"

    def evidence(self) -> dict[str, typing.Any]:
        return {"stream": self.stream, "seconds": round(self.seconds, 1), "probes": [asdict(o) for o in self.outcomes]}

    def to_dict(self) -> dict[str, typing.Any]:
        head = {"schema_version": SCHEMA_VERSION, "probed": self.what, "seed": self.seed, "verdict": self.verdict}
        return {**head, "says": self.says, **self.evidence()}


def table(probed: Probed, width: int | None) -> str:
    lines = [f"{_title(probed)}: {probed.verdict.upper()}", _stream_line(probed), ""]
    for one in probed.outcomes:
        head = f"{one.verdict.upper():6}  {one.name:{NAME_WIDTH}}  "
        lines.append(filled(f"{head}{plain(one.says, 600)} [{one.check}; {one.authority}]", width, " " * len(head)))
    return "\n".join([*lines, "", filled(CAVEAT, width), ""])


def markdown(probed: Probed) -> str:
    lines = [f"## Dynamic probes of {_title(probed)}: {probed.verdict}", "", _stream_line(probed), ""]
    lines += ["| probe | verdict | what was seen | rule |", "| --- | --- | --- | --- |"]
    for one in probed.outcomes:
        says = plain(one.says, 600).replace("|", "\\|")
        lines.append(f"| {one.name} ({one.check}) | {one.verdict} | {says} | {one.authority} |")
    return "\n".join([*lines, "", CAVEAT, ""])


def _title(probed: Probed) -> str:
    return plain(probed.what) + ("" if probed.seed is None else f", seed {probed.seed}")


def _stream_line(probed: Probed) -> str:
    stream = probed.stream
    return (
        f"{stream['tokens']:,} tokens in {stream['documents']:,} documents of {plain(stream['shard'])}, "
        f"{probed.runs:,} runs in {probed.seconds:.0f} s; sandbox: {stream['sandbox']}"
    )
