"""What an expression of a script may be, as far as the triage follows it: constants, labels of where it came from, and
the objects that it is, or is a view of.

Nothing of the script runs. A label is a short tuple; what each kind means stands beside its constructor.
"""

import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

if typing.TYPE_CHECKING:
    import ast

Label = tuple[typing.Any, ...]
Labels = frozenset[Label]
NONE: Labels = frozenset()


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: typing.Any = _Unknown()

VAL: Label = ("val",)  # read from the validation data
TRAIN: Label = ("train",)  # read from the training data
TOKENS: Label = ("tokens",)  # token ids themselves, not something computed from them
PROBABILITY: Label = ("probability",)  # softmax or log_softmax over a vocabulary
LN2: Label = ("ln2",)  # the natural logarithm of two: what turns nats into bits
EQUALS: Label = ("equals",)  # whether a target is a certain token: an indicator, as a gather is
PACKED: Label = ("packed",)  # several quantities side by side in one tensor
PATH: Label = ("path",)  # the name of a file, not what is in it
PREFIX: Label = ("prefix",)  # the first part of a window's losses, up to some position
SCORES: Label = ("scores",)  # which of two scores in bits is the better
PER_BYTE: Label = ("per byte",)  # divided by what a table has under token ids: by bytes
LIBRARY: Label = ("library",)  # compiled code that the script brings along
MULTIPLIED: Label = ("multiplied",)  # token ids times a number: on the way to a hash
FOREIGN: Label = ("foreign",)  # computed by compiled code that the script brings along


def site(number: int) -> Label:
    """Cut out of the data at this place of the script."""
    return ("site", number)


def turn(loop: int, number: int) -> Label:
    """Depends on which turn of a loop this is."""
    return ("turn", loop, number)


def index(loop: int, offset: int) -> Label:
    """So much beyond the number that a loop counts."""
    return ("index", loop, offset)


def gated(line: int) -> Label:
    """Stored only where a token at the same position has a property."""
    return ("gated", line)


def following(loop: int) -> Label:
    """One more than the number of a turn."""
    return ("next", loop)


def ahead(loop: int) -> Label:
    """From where the next turn's data begin."""
    return ("ahead", loop)


def best(line: int) -> Label:
    """The better of two scores of the same text."""
    return ("best", line)


def loss(number: int) -> Label:
    """Holds the loss that was computed by this event."""
    return ("loss", number)


def learned(number: int) -> Label:
    """Depends on gradients of this event: it has learned from the event's data."""
    return ("learned", number)


def read(number: int) -> Label:
    """Read from a table under a key made of data: by this event."""
    return ("read", number)


def hashed(line: int) -> Label:
    """A key mixed from token ids, not one to one."""
    return ("hashed", line)


def found_by_hash(line: int) -> Label:
    """Read from a table under a hashed key."""
    return ("found by hash", line)


def smoothed(line: int) -> Label:
    """Counts under a hashed key with the model's own probability as their prior."""
    return ("smoothed", line)


def packed_counts(line: int) -> Label:
    """From a table that was counted on the training data."""
    return ("packed counts", line)


def looked_up(line: int) -> Label:
    """Read from a table under a token id: a property of that token."""
    return ("looked up", line)


def chosen(line: int) -> Label:
    """The smaller or larger of two scores, or one of two by a condition on a score: by what the target is."""
    return ("chosen", line)


def kind(labels: Iterable[Label], name: str) -> set[typing.Any]:
    """The second members of labels of one kind.

    >>> sorted(kind([loss(3), VAL, loss(1)], "loss"))
    [1, 3]
    """
    return {one[1] for one in labels if one[0] == name}


@dataclass(eq=False)
class Obj:
    """Something that can change in place."""

    labels: set[Label] = field(default_factory=set)
    attrs: "dict[str, Value]" = field(default_factory=dict)

    def parts(self) -> "Iterator[Value]":
        yield from self.attrs.values()


@dataclass(eq=False)
class Sequence(Obj):
    """A list, tuple or set; `exact` where the items are all there are, in order."""

    items: "list[Value]" = field(default_factory=list)
    exact: bool = True

    def parts(self) -> "Iterator[Value]":
        yield from self.items


@dataclass(eq=False)
class Mapping(Obj):
    """A dict; `rest` is what lies under keys that are not known."""

    items: "dict[typing.Any, Value]" = field(default_factory=dict)
    rest: "Value | None" = None

    def parts(self) -> "Iterator[Value]":
        yield from self.items.values()
        if self.rest is not None:
            yield self.rest


@dataclass(eq=False)
class Instance(Obj):
    """Of a class of the script, or of a library's class that the triage knows (`library`, a dotted name)."""

    cls: "Class | None" = None
    library: str = ""


@dataclass(eq=False)
class Function:
    """A function of the script with the scope that it was made in."""

    node: "ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda"
    scope: typing.Any
    module: typing.Any
    defaults: "list[Value]" = field(default_factory=list)
    kw_defaults: "dict[str, Value]" = field(default_factory=dict)
    plain: bool = False  # a static method
    of_class: bool = False
    is_property: bool = False
    owner: "Class | None" = None


@dataclass(eq=False)
class Class:
    name: str
    bases: "list[Value]"
    attrs: "dict[str, Value]"
    fields: "list[str]" = field(default_factory=list)  # of a dataclass, in order

    def lineage(self) -> "Iterator[Class]":
        """Itself, then its bases of the script, depth first."""
        yield self
        for base in self.bases:
            if isinstance(base.call, Class) and base.call is not self:
                yield from base.call.lineage()

    def find(self, name: str) -> "Value | None":
        return next((one.attrs[name] for one in self.lineage() if name in one.attrs), None)


@dataclass(frozen=True, eq=False)
class Bound:
    """A function with what it is called on, or with its first arguments (functools.partial)."""

    call: typing.Any
    args: "tuple[Value, ...]"
    kwargs: "tuple[tuple[str, Value], ...]" = ()


@dataclass(frozen=True, eq=False)
class Library:
    """A name outside the script: torch.nn.functional."""

    name: str


@dataclass(frozen=True, eq=False)
class Value:
    const: typing.Any = UNKNOWN
    labels: Labels = NONE
    obj: Obj | None = None  # what it is
    refs: frozenset[Obj] = frozenset()  # what it is a view of, or holds the parameters of
    call: typing.Any = None  # Function, Class, Bound, Library, or a tuple of them: which is not known

    @property
    def known(self) -> bool:
        return self.const is not UNKNOWN

    def objects(self) -> "frozenset[Obj]":
        return self.refs | {self.obj} if self.obj is not None else self.refs

    def but(self, labels: Labels) -> "Value":
        return replace(self, labels=labels)


ANYTHING = Value()
NOTHING = Value(const=None)
DEPTH = 6


def all_labels(value: Value) -> Labels:
    """Its own, and those of all that can be reached from it."""
    if not value.refs and value.obj is None:
        return value.labels
    found = set(value.labels)
    add_labels(value.objects(), found, set(), DEPTH)
    return frozenset(found)


def add_labels(objects: Iterable[Obj], found: set[Label], seen: set[int], depth: int) -> None:
    for one in objects:
        if id(one) in seen:
            continue
        seen.add(id(one))
        found |= one.labels
        if depth:
            for part in one.parts():
                found |= part.labels
                if part.refs or part.obj is not None:
                    add_labels(part.objects(), found, seen, depth - 1)


def reachable(objects: Iterable[Obj], depth: int = DEPTH) -> "set[Obj]":
    """Objects and what hangs below them."""
    found: set[Obj] = set()
    pending = [(one, depth) for one in objects]
    while pending:
        one, left = pending.pop()
        if one in found:
            continue
        found.add(one)
        if left:
            pending.extend((below, left - 1) for part in one.parts() for below in part.objects())
    return found


def join(one: Value, other: Value) -> Value:
    """Either of two."""
    if one is other:
        return one
    same = one.known and other.known and type(one.const) is type(other.const) and one.const == other.const
    obj = one.obj if one.obj is not None else other.obj
    refs = one.refs | other.refs
    if one.obj is not None and other.obj is not None and one.obj is not other.obj:
        refs |= {other.obj}
    calls = tuple(dict.fromkeys([*_calls(one.call), *_calls(other.call)]))
    return Value(
        const=one.const if same else UNKNOWN,
        labels=one.labels | other.labels,
        obj=obj,
        refs=refs,
        call=calls[0] if len(calls) == 1 else calls or None,
    )


def _calls(call: typing.Any) -> tuple[typing.Any, ...]:
    return call if isinstance(call, tuple) else (call,) if call is not None else ()


def join_all(values: Iterable[Value]) -> Value:
    found: Value | None = None
    for value in values:
        found = value if found is None else join(found, value)
    return found or ANYTHING


def copied(obj: Obj, memo: dict[int, Obj]) -> Obj:
    """A copy that shares nothing that can change."""
    if id(obj) in memo:
        return memo[id(obj)]
    twin = replace(obj, labels=set(obj.labels))
    memo[id(obj)] = twin
    twin.attrs = {name: copied_value(value, memo) for name, value in obj.attrs.items()}
    if isinstance(twin, Sequence) and isinstance(obj, Sequence):
        twin.items = [copied_value(value, memo) for value in obj.items]
    if isinstance(twin, Mapping) and isinstance(obj, Mapping):
        twin.items = {key: copied_value(value, memo) for key, value in obj.items.items()}
        twin.rest = copied_value(obj.rest, memo) if obj.rest is not None else None
    return twin


def copied_value(value: Value, memo: dict[int, Obj]) -> Value:
    if value.obj is None and not value.refs:
        return value
    obj = copied(value.obj, memo) if value.obj is not None else None
    return replace(value, obj=obj, refs=frozenset(copied(one, memo) for one in value.refs))
