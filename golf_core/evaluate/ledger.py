"""The score ledger: the evaluator owns the tokens, and a score is committed before its target may be learned from.

An evaluation declares the windows that it will score (`predict`) and receives their inputs; it hands back
logits (`commit`), from which the ledger itself computes the normalised losses; only committed targets can be
had for training: by their own rank (`adapt_own`), and by any rank after `merge` (`adapt`). Every target is scored
exactly once, and bits per byte are computed here. There is one way around the order, `unscored_tokens`, and the verdict
tells it for good. What the tokens' keeper guarantees and what not, tokens.py says.

Everything that happens is an event of a record (chain.py), with digests of the weights that are watched. Between two
events of a rank the weights move only if committed targets were handed out in between; results/ledger_file.py, which
shares no code with this, checks that, and order, coverage and sums. A model's causality is not the ledger's concern,
nor are weights that nobody told it to watch.

Shapes: N scored positions, V vocabulary.
"""

import hashlib
import json
import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from golf_core.data.byte_count import target_bytes
from golf_core.evaluate.chain import ADAPT, ADAPT_OWN, COMMIT, END, MERGE, UNSCORED, WATCH, Chain
from golf_core.evaluate.ledger_file import encode_events
from golf_core.evaluate.tokens import PURPOSES, LedgerError, Span, TokenStore, join_neighbours
from golf_core.evaluate.windows import ScoreWindow

# What a stage was, once it is finished.
TRACK_A = "TRACK_A"  # nothing learned
SCORE_FIRST_OK = "SCORE_FIRST_OK"  # learned from nothing but what was scored before
ILLEGAL_TRAIN_BEFORE_SCORE = "ILLEGAL_TRAIN_BEFORE_SCORE"  # tokens were had before they were scored


@dataclass(frozen=True)
class Score:
    """What one evaluation stage found. Loss in nats a token, BPB in bits a byte of the normalised text."""

    val_loss: float
    val_bpb: float
    tokens: int
    bytes: int


class ScoreLedger:
    """One evaluation stage over one stream of tokens, on one rank of `world`."""

    def __init__(
        self,
        stage: str,
        tokens: np.ndarray,
        tables: tuple[np.ndarray, np.ndarray, np.ndarray],
        device: torch.device,
        rank: int,
        world: int,
        part: int | None = None,
        context: int | None = None,
        keep: bool = False,
    ) -> None:
        """`part`: how many targets make a part of the stream that `parts` tells of; without it all are one.
        `context`: the longest window that may be asked for.
        `keep`: each target's nats and the order of scoring and learning on this rank stay: `nll`, `order`, `learned`.
        """
        self.stage, self.device, self.rank, self.world = stage, device, rank, world
        self.place = f"{stage}, rank {rank}"
        self.store = TokenStore(self.place, tokens, context)
        self.targets = self.store.targets
        self.part = min(part or self.targets, self.targets)
        count = -(-self.targets // self.part)
        self._part_nats = torch.zeros(count, dtype=torch.float64, device=device)
        self._part_bytes = np.zeros(count, dtype=np.int64)
        self._tables = tables
        self._open: list[ScoreWindow] = []
        self._unsent: list[Span] = []  # runs of targets committed here since the last merge
        self._nats = torch.zeros((), dtype=torch.float64, device=device)
        self._bytes = 0
        self._unchecked: tuple[list[ScoreWindow], Tensor, Flag] | None = None
        self.chain = Chain(stage, self.targets, rank, world, device)
        self._adapted = False
        self.tainted = False
        self.facts: dict[str, typing.Any] = {}  # what the finished stage is, over all ranks
        self.commits = 0
        self.nll = np.full(self.targets if keep else 0, np.nan)
        self.order = np.full(self.targets if keep else 0, -1, dtype=np.int64)  # number of the commit, from 0
        self.learned: list[int] = []  # how many commits came before each time that tokens were had to learn from

    def documents(self) -> list[Span]:
        return self.store.documents()

    def watch(self, weights: Iterable[Tensor] = (), additions: Iterable[Tensor] = ()) -> None:
        """Digests of these tensors are in every event from here on. The artifact's weights may move only after `adapt`,
        additions of this rank after `adapt` or `adapt_own`; other tensors may be watched at any time."""
        self.chain.weights, self.chain.additions = list(weights), list(additions)
        self.chain.add(WATCH)

    def predict(self, windows: list[ScoreWindow], length: int | None = None) -> Tensor:
        """The inputs of windows, (windows, length), int64. They must be committed next. Windows shorter than `length`
        are filled up with zeros on the right, where no position of theirs looks; without it all are of one length."""
        if self._open:
            raise LedgerError(f"{self.place}: predict before the commit of target {self._open[0].first}")
        rows = self.store.inputs(windows)
        self._open = list(windows)
        return self._rows(rows, length)

    def commit(self, logits_NV: Tensor) -> tuple[int, Tensor]:
        """Score the open windows: logits for their scored positions, window after window. Returns the number of
        targets and, revealed only now, the targets (N,)."""
        self._require_finite()
        if not self._open:
            raise LedgerError(f"{self.place}: commit without predict")
        windows, first = self._open, self._open[0].first
        wanted = sum(w.stop - w.first for w in windows), len(self._tables[0])
        if tuple(logits_NV.shape) != wanted:
            raise LedgerError(
                f"{self.place}: logits of shape {tuple(logits_NV.shape)} for {wanted[0]} targets from {first} on, "
                f"over a vocabulary of {wanted[1]}"
            )
        self._open = []
        previous, target = self.store.reveal(windows)
        revealed = self._on_device(target.astype(np.int64))
        nats_N = F.cross_entropy(logits_NV.detach().float(), revealed, reduction="none").double()
        self._unchecked = windows, nats_N, Flag(torch.isfinite(nats_N).all())
        if nats_N.device.type == "cpu":
            self._require_finite()
        self._add_up(windows, nats_N, target_bytes(previous, target, self._tables))
        return len(target), revealed

    def _add_up(self, windows: list[ScoreWindow], nats_N: Tensor, bytes_N: np.ndarray) -> None:
        runs = join_neighbours([(w.first, w.stop) for w in windows], [])
        places_N = np.concatenate([np.arange(first, stop) for first, stop in runs])
        parts_N = places_N // self.part
        total, text_bytes = nats_N.sum(), int(bytes_N.sum())
        self._nats += total
        self._bytes += text_bytes
        self._part_nats.index_add_(0, self._on_device(parts_N), nats_N)
        np.add.at(self._part_bytes, parts_N, bytes_N)
        self.chain.add(COMMIT, runs, total, text_bytes)
        join_neighbours(runs, self._unsent)
        if len(self.nll):
            self.nll[places_N], self.order[places_N] = nats_N.cpu().numpy(), self.commits
        self.commits += 1

    def _require_finite(self) -> None:
        """Refuse a loss that is no number. A GPU is asked when the next batch is under way, so that it never waits."""
        if self._unchecked is None:
            return
        (windows, nats_N, finite), self._unchecked = self._unchecked, None
        if not finite.value():
            wrong = int(torch.isfinite(nats_N).logical_not().nonzero()[0])
            target = np.concatenate([np.arange(w.first, w.stop) for w in windows])[wrong]
            loss = float(nats_N[wrong])
            raise LedgerError(f"{self.place}: the logits of target {target} make a loss of {loss}; they must be finite")

    def merge(self) -> None:
        """Tell every rank what the others have committed; all ranks must call it together."""
        self._require_finite()
        self.chain.add(MERGE)
        runs, self._unsent = self._unsent, []
        heads = self._from_all(np.concatenate(([len(runs)], np.frombuffer(self.chain.ends(), dtype="<i8"))))
        longest = max(int(head[0]) for head in heads)
        mine = np.full((longest, 2), -1, dtype=np.int64)
        mine[: len(runs)] = np.array(runs, dtype=np.int64).reshape(len(runs), 2)
        tables = self._from_all(mine) if longest else [mine] * self.world
        self.store.merge(
            [
                (rank, int(first), int(stop))
                for rank, (head, table) in enumerate(zip(heads, tables, strict=True))
                for first, stop in table[: int(head[0])]
            ]
        )
        self.chain.join([head[1:].tobytes() for head in heads])

    def adapt(self, spans: list[Span]) -> tuple[Tensor, Tensor]:
        """Inputs and targets for training, (spans, length) each, for spans [first, stop) of targets of one length.
        Every target must be committed, on whichever rank, and merged."""
        return self._training_rows(ADAPT, spans)

    def adapt_own(self, spans: list[Span]) -> tuple[Tensor, Tensor]:
        """The same for targets that this rank itself has committed: no merge, no other rank is waited for."""
        return self._training_rows(ADAPT_OWN, spans)

    def _training_rows(self, kind: int, spans: list[Span]) -> tuple[Tensor, Tensor]:
        self._require_finite()
        rows = self.store.learn(spans, own=kind == ADAPT_OWN)
        self._adapted = True
        self.learned.append(self.commits)
        self.chain.add(kind, spans)
        return self._rows([row[:-1] for row in rows]), self._rows([row[1:] for row in rows])

    def unscored_tokens(self) -> np.ndarray:
        """Every token of the stream, scored or not: what a diagnostic may look at and no submission. From here on the
        ledger is tainted, whatever is done with them."""
        self.tainted = True
        self.learned.append(self.commits)
        self.chain.add(UNSCORED, [(0, self.targets)])
        return self.store.everything()

    def running_bpb(self) -> float:
        """Bits per byte of what this rank has committed so far."""
        return float(self._nats) / math.log(2) / max(self._bytes, 1)

    def finish(self) -> Score:
        """The stage's score over all ranks, once every target is scored. All ranks must call it together."""
        if self._open:
            raise LedgerError(f"{self.place}: target {self._open[0].first} was predicted and never committed")
        self.merge()
        if (missing := self.store.missing()) is not None:
            raise LedgerError(f"{self.place}: target {missing} of {self.targets} was never scored, by no rank")
        here = np.array([float(self._nats), self._bytes, self._adapted, self.tainted], dtype=np.float64)
        told = self._from_all(here.view(np.int64))
        nats, text_bytes, learned, tainted = (
            math.fsum(column) for column in np.stack(told).view(np.float64).T.tolist()
        )
        if text_bytes <= 0:
            raise LedgerError(f"{self.place}: the targets hold no bytes")
        verdict = ILLEGAL_TRAIN_BEFORE_SCORE if tainted else SCORE_FIRST_OK if learned else TRACK_A
        self._close(nats, round(text_bytes), verdict)
        return Score(nats / self.targets, nats / math.log(2) / text_bytes, self.targets, round(text_bytes))

    def _close(self, nats: float, text_bytes: int, verdict: str) -> None:
        """End the record, and bind the ends of all ranks' chains to what the stage found."""
        self.chain.add(END)
        mine = np.concatenate(([self.store.reads[one] for one in PURPOSES], np.frombuffer(self.chain.ends(), "<i8")))
        told = self._from_all(mine)
        ends = [row[len(PURPOSES) :].tobytes() for row in told]
        reads = {one: sum(int(row[place]) for row in told) for place, one in enumerate(PURPOSES)}
        self.facts = facts_of(self.stage, self.targets, self.world, nats, text_bytes, verdict, reads, ends)

    def parts(self) -> tuple[list[float], list[int]]:
        """Nats and bytes of each part of the stream over all ranks, for a look at where a stage gains; the score is
        `finish`'s. All ranks must call it together, after it."""
        sums = torch.stack([self._part_nats, torch.from_numpy(self._part_bytes).to(self._part_nats)])
        if self.world > 1:
            dist.all_reduce(sums)
        nats, count = sums.tolist()
        return nats, [round(one) for one in count]

    @property
    def verdict(self) -> str:
        """What the stage was, on whichever rank; known once it is finished."""
        if not self.facts:
            raise LedgerError(f"{self.place}: a stage that is not finished has no verdict")
        return str(self.facts["verdict"])

    def record(self) -> tuple[dict[str, typing.Any], list[bytes]]:
        """What the finished stage found, and every rank's record, for `encode_ledger`. All ranks must call it."""
        mine, runs = encode_events(self.chain.events, COMMIT)
        sizes = self._from_all(np.array([len(self.chain.events), runs, len(mine)], dtype=np.int64))
        padded = np.zeros(-(-max(int(size[2]) for size in sizes) // 8) * 8, dtype=np.uint8)
        padded[: len(mine)] = np.frombuffer(mine, dtype=np.uint8)
        records = self._from_all(padded.view(np.int64))
        ranks = [dict(zip(("events", "runs", "size"), map(int, size), strict=True)) for size in sizes]
        return self.facts | {"ranks": ranks}, [
            table.tobytes()[: one["size"]] for table, one in zip(records, ranks, strict=True)
        ]

    def _from_all(self, values: np.ndarray) -> list[np.ndarray]:
        """The int64 values of every rank, which has as many as this one."""
        mine = values.astype("<i8")
        if self.world == 1:
            return [mine]
        tables = [torch.empty(mine.shape, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        dist.all_gather(tables, torch.from_numpy(mine).to(self.device))
        return [table.cpu().numpy().astype("<i8") for table in tables]

    def _rows(self, rows: list[np.ndarray], length: int | None = None) -> Tensor:
        table = np.zeros((len(rows), len(rows[0]) if length is None else length), dtype=np.int64)
        for row, tokens in zip(table, rows, strict=True):
            if len(tokens) > len(row) or (length is None and len(tokens) < len(row)):
                raise LedgerError(f"{self.place}: {len(tokens)} tokens in a row of {len(row)}")
            row[: len(tokens)] = tokens
        return self._on_device(table)

    def _on_device(self, values: np.ndarray) -> Tensor:
        """A GPU's host does not wait: it copies from pinned memory, which torch keeps until the copy is done."""
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)


def facts_of(
    stage: str,
    targets: int,
    world: int,
    nats: float,
    text_bytes: int,
    verdict: str,
    reads: dict[str, int],
    ends: list[bytes],
) -> dict[str, typing.Any]:
    """What a stage is, and the ends of all ranks' chains bound to it."""
    facts: dict[str, typing.Any] = {"stage": stage, "tokens": targets, "world": world, "nats": nats}
    facts |= {"bytes": text_bytes, "verdict": verdict, "reads": reads}
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    for name, low in (("order", 0), ("clock", 32)):
        bound = b"".join(end[low : low + 32] for end in ends)
        facts[name] = hashlib.sha256(bound + canonical).hexdigest()
    return facts


class Flag:
    """A truth value on its way from the device: it is there once what was asked before it is done."""

    def __init__(self, value: Tensor) -> None:
        self._value, self._event = value, None
        if value.device.type == "cuda":
            self._value = torch.empty((), dtype=torch.bool, pin_memory=True)
            self._value.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def value(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._value)
