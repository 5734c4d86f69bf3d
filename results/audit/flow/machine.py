"""The state of one interpretation: where it is, what has happened, what is still allowed."""

import ast
import re
import typing
from collections.abc import Mapping

from results.audit.flow.events import CALIBRATION, GRADIENT, Learning, Loss, Place, Read, Report, Trace
from results.audit.flow.scope import Frame, Module, OutOfSteps
from results.audit.flow.values import (
    FOREIGN,
    LN2,
    NONE,
    PACKED,
    PATH,
    PER_BYTE,
    PREFIX,
    TOKENS,
    TRAIN,
    VAL,
    Function,
    Instance,
    Labels,
    Library,
    Obj,
    Sequence,
    Value,
    all_labels,
    kind,
    learned,
    loss,
    read,
)

Args = list[Value]
Kwargs = dict[str, Value]
MAX_STEPS = 1_500_000
MAX_DEPTH = 40
VAL_WORDS = re.compile(r"(?<![a-z])val(?:id|idation)?(?![a-z])")
TRAIN_WORDS = re.compile(r"(?<![a-z])train(?:ing)?(?![a-z])")
FILE_NAME = re.compile(r"[*/\\]|\.(bin|npy|npz|pt|u16|dat|jsonl?|parquet)\b|_$")
WORDS = {"val": VAL, "valid": VAL, "validation": VAL, "train": TRAIN, "training": TRAIN}
SIDE_KINDS = (
    "gated",
    "smoothed",
    "packed counts",
    "found by hash",
    "looked up",
    "chosen",
    "site",
    "read",
    "val",
    "equals",
    "foreign",
    "hashed",
)


def labels_of_text(text: str) -> Labels:
    """What a file name says of what is in the file: validation or training data.

    >>> labels_of_text("data/fineweb_val_*.bin") == {VAL, PATH}, labels_of_text("val_bpb: ") == NONE
    (True, True)
    """
    if len(text) > 300 or " " in text.strip():
        return NONE
    low = text.lower()
    if low in WORDS:
        return frozenset({WORDS[low], PATH})
    if not FILE_NAME.search(low) or low.endswith(".py"):
        return NONE
    found = {label for words, label in ((VAL_WORDS, VAL), (TRAIN_WORDS, TRAIN)) if words.search(low.replace("_", " "))}
    return frozenset({*found, PATH}) if len(found) == 1 else NONE


def as_text(labels: Labels) -> Labels:
    """What still counts once a value is written out: for a file name all, else which score it is."""
    return labels if PATH in labels else frozenset(one for one in labels if one[0] in ("loss", "ln2", "foreign"))


class Machine:
    """What all parts of the interpreter share, and what they have of each other."""

    if typing.TYPE_CHECKING:

        def evaluate(self, node: ast.expr) -> Value: ...
        def assign(self, target: ast.expr, value: Value) -> None: ...
        def attribute(self, owner: Value, name: str, node: ast.AST) -> Value: ...
        def store_attribute(self, owner: Value, name: str, value: Value, node: ast.AST) -> None: ...
        def store_under(self, table: Value, key: Value, value: Value, node: ast.AST) -> None: ...
        def copy_into(self, owner: Value, value: Value, node: ast.AST) -> Value: ...
        def truth(self, value: Value) -> bool | None: ...
        def turns(self, value: Value) -> list[Value]: ...
        def element(self, value: Value) -> Value: ...
        def gathered(self, base: Value, index: Value, node: ast.AST) -> Value: ...
        def table(self, base: Value, labels: Labels, keys: Labels, node: ast.AST) -> Value: ...
        def lookup(self, base: Value, keys: Labels, node: ast.AST) -> int: ...
        def count(self, table: Value, key: Value, node: ast.AST) -> Labels: ...
        def call(self, found: Value, args: Args, kwargs: Kwargs, node: ast.AST, launched: bool = False) -> Value: ...
        def generic(self, found: Value, args: Args, kwargs: Kwargs, node: ast.AST) -> Value: ...
        def inline(self, function: Function, args: Args, kwargs: Kwargs, node: ast.AST) -> Value: ...
        def decorated(self, value: Value, node: ast.expr) -> Value: ...
        def module(self, name: str) -> Value: ...
        def library_item(self, call: Library, index: Value) -> Value: ...
        def argument(self, parser: Obj, names: list[str], kwargs: Kwargs) -> None: ...
        def m_append(self, owner: Value, args: Args, kwargs: Kwargs, node: ast.AST) -> Value | None: ...

    def __init__(self, environment: Mapping[str, str], arguments: typing.Sequence[str]) -> None:
        self.environment, self.arguments = dict(environment), list(arguments)
        self.trace = Trace()
        self.steps = 0
        self.time = 0
        self.uncertain = 0  # how many conditions above are not known
        self.path: list[tuple[int, int, int]] = []
        self.executions: dict[int, int] = {}
        self.stack: list[Frame] = []
        self.modules: dict[str, Module] = {}
        self.saved: set[typing.Any] = set()  # labels of what was written to files
        self.pending: list[Learning] = []  # gradients that no step has used up
        self.hooks: list[Value] = []
        self.patched: dict[str, Value] = {}  # what a script has put into a library's place
        self.gates: list[Labels] = []  # of the conditions above that are not known
        self.looked: dict[int, tuple[Place, frozenset[Obj], frozenset[int]]] = {}  # tables read under a token id
        self.reported: set[tuple[Place, frozenset[int]]] = set()

    @property
    def frame(self) -> Frame:
        return self.stack[-1]

    def step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise OutOfSteps

    def place(self, node: ast.AST) -> Place:
        return Place(self.frame.module.name, getattr(node, "lineno", 0))

    def mark(self, node: ast.AST) -> int:
        """A number for a place in the script."""
        return id(node)

    def now(self) -> int:
        self.time += 1
        return self.time

    # --- events

    def loss_of(self, logits: Labels, targets: Labels, node: ast.AST) -> Value:
        """The loss of targets under logits: from here on a number, in which the target has been looked at."""
        number = len(self.trace.losses)
        self.trace.losses.append(
            Loss(
                number=number,
                place=self.place(node),
                time=self.now(),
                path=tuple(self.path),
                validation=VAL in targets or (VAL in logits and TRAIN not in targets),
                learned=frozenset(kind(logits, "learned")),
                prefix=PREFIX in targets,
                unruled=frozenset(one for one in logits if one[0] in ("found by hash", "packed counts")),
                reads=frozenset(kind(logits, "read")),
                sites=frozenset(kind(targets, "site") - kind(logits, "site")),
                data=frozenset(one for one in targets if one[0] in ("turn", "ahead")),
                lookups=frozenset(kind(logits, "looked up")),
                targets=frozenset(kind(targets, "site")),
            )
        )
        return Value(labels=frozenset({loss(number)}))

    def learn(self, how: str, labels: Labels, node: ast.AST) -> Learning:
        """Something takes up what has these labels."""
        losses = frozenset(kind(labels, "loss"))
        data = {one for one in labels if one[0] in ("turn", "ahead")}
        for one in losses:
            data |= self.trace.losses[one].data
        event = Learning(
            number=len(self.trace.learnings),
            kind=how,
            place=self.place(node),
            time=self.now(),
            path=tuple(self.path),
            losses=losses,
            data=frozenset(data),
            prefix=PREFIX in labels or (bool(losses) and all(self.trace.losses[one].prefix for one in losses)),
        )
        self.trace.learnings.append(event)
        return event

    def is_validation(self, labels: Labels) -> bool:
        return VAL in labels or any(self.trace.losses[one].validation for one in kind(labels, "loss"))

    def backward(self, value: Value, node: ast.AST) -> Labels:
        """Gradients of a loss; labels of what has learned from them, where it is of validation data."""
        labels = all_labels(value)
        if not self.is_validation(labels):
            return NONE
        event = self.learn(GRADIENT, labels, node)
        self.pending.append(event)
        return frozenset({learned(event.number)})

    def look(self, table: Labels, node: ast.AST) -> Value:
        """A look into a table under a key of validation data."""
        number = len(self.trace.reads)
        self.trace.reads.append(
            Read(number, self.place(node), self.now(), tuple(self.path), frozenset(kind(table, "learned")))
        )
        return Value(labels=frozenset({read(number)}))

    def added(self, value: Value, node: ast.AST) -> None:
        """A value is added to a total or kept: what was mixed into its losses by now is part of the score."""
        if isinstance(value.obj, Sequence) and len(value.obj.items) > 1:  # several side by side
            for one in value.obj.items:
                self.added(one, node)
            return
        labels = all_labels(value)
        losses = kind(labels, "loss")
        if (
            not losses or PACKED in labels or {PER_BYTE, LN2} <= labels
        ):  # bytes know the targets: they are no part of it
            return
        side = {one for one in labels if one[0] in SIDE_KINDS}
        for number in losses:
            if side:
                self.trace.losses[number].side |= side
                self.trace.losses[number].mixed_at.add(self.place(node))

    def report(self, value: Value, node: ast.AST) -> None:
        """A value is printed: a score, if it is a loss in bits."""
        labels = all_labels(value)
        losses = frozenset(one for one in kind(labels, "loss") if self.trace.losses[one].validation)
        if not losses or not (labels & {LN2, FOREIGN} or kind(labels, "looked up")):
            return  # neither in bits nor over bytes
        for one in losses if FOREIGN in labels else ():
            self.trace.losses[one].side.add(FOREIGN)
        key = (self.place(node), losses)
        if key not in self.reported:
            self.reported.add(key)
            self.trace.reports.append(Report(key[0], self.now(), losses, frozenset(kind(labels, "best"))))

    def keep(self, value: Value, node: ast.AST) -> Labels:
        """A value is written to a file: labels of what it has learned, which whoever reads files may have too."""
        labels = all_labels(value)
        found = {one for one in labels if one[0] in ("learned", "packed counts")}
        if VAL in labels and not labels & {TOKENS, PATH, LN2} and not kind(labels, "loss"):
            found.add(learned(self.learn(CALIBRATION, labels, node).number))
        self.saved |= found
        return frozenset(found)

    # --- changes in place

    def change(self, value: Value, labels: Labels) -> None:
        """What the value is, or is a view of, has these labels too from here on."""
        for one in value.objects():
            one.labels |= labels

    def teach(self, objects: "frozenset[Obj]", node: ast.AST) -> None:
        """An optimizer's step: the pending gradients go into these objects."""
        for event in self.pending:
            modules = [one for one in objects if isinstance(one, Instance)]
            event.fresh = event.fresh or not modules
            for one in objects:
                one.labels.add(learned(event.number))

    def content(self, labels: Labels) -> Labels:
        """Labels of a number that is computed from what has `labels`: it is no token and no file name."""
        return labels - {TOKENS, PATH}

    def foreign(self, labels: Labels) -> Labels:
        return labels | {FOREIGN}
