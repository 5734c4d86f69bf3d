"""What happens in a script, in the order in which it would: losses are computed, something learns from data, a score
is reported. The rules of order (S1, S3, S7, S8) judge these events.
"""

from dataclasses import dataclass, field

from results.audit.flow.values import Label, Labels

Path = tuple[tuple[int, int, int], ...]  # of loops, outermost first: (place, which execution of it, which turn)


@dataclass(frozen=True)
class Place:
    """Where in the script: the piece's name and the line in it."""

    piece: str
    line: int


@dataclass
class Loss:
    """Losses of targets under logits, computed at once."""

    number: int
    place: Place
    time: int
    path: Path
    validation: bool
    learned: frozenset[int]  # events whose data the logits have learned from
    reads: frozenset[int]  # reads of tables that the logits were made with
    sites: frozenset[int]  # cuts that the targets come from and the logits do not
    data: Labels  # turns of loops on which the targets depend
    lookups: frozenset[int] = frozenset()  # tables that the logits were made with, read under a token id
    targets: frozenset[int] = frozenset()  # all cuts that the targets come from
    prefix: bool = False  # of the head of a window
    unruled: Labels = frozenset()  # tables under hashed keys, and counts that the artifact brings along, in the logits
    side: set[Label] = field(default_factory=set)  # what was mixed into it after the targets were looked at
    mixed_at: set[Place] = field(default_factory=set)


@dataclass
class Read:
    """A look into a table under a key made of validation data."""

    number: int
    place: Place
    time: int
    path: Path
    learned: frozenset[int]


GRADIENT, COUNT, CALIBRATION = "gradient", "count", "calibration"


@dataclass
class Learning:
    """Something takes up validation data: gradients of a loss, counts, statistics for quantization."""

    number: int
    kind: str
    place: Place
    time: int
    path: Path
    losses: frozenset[int]
    data: Labels  # turns of loops on which its data depends
    prefix: bool = False  # of the first part of each window only
    fresh: bool = False  # what learns was made for this, in the same turn of the loop: a delta, not a model


@dataclass
class Report:
    """A score in bits, as it is printed."""

    place: Place
    time: int
    losses: frozenset[int]
    best: frozenset[int]  # lines where the better of two scores was taken


@dataclass
class Trace:
    losses: list[Loss] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    learnings: list[Learning] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    lookups: dict[int, int] = field(default_factory=dict)  # tables read under a token id: the line
    open_ended: set[int] = field(default_factory=set)  # loops with a condition: what a turn of theirs takes is not seen
    notes: list[str] = field(default_factory=list)  # what could not be followed
    reached: set[tuple[str, int]] = field(default_factory=set)  # (piece, line) of statements that run
