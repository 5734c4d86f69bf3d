"""The score ledger: the evaluator owns the tokens, and a score is committed before its target may be learned from.

An evaluation declares the windows that it will score (`predict`) and receives their inputs; it hands back
logits (`commit`), from which the ledger itself computes the normalised losses; only committed targets can be
had for training: by their own rank (`adapt_own`), and by any rank after `merge` (`adapt`). Every target is scored
exactly once, and bits per byte are computed here. Losses, bytes and order are the ledger's; a model's causality is
not its concern. There is one way around the order, `unscored_tokens`, and the verdict tells it for good.

Shapes: N scored positions, V vocabulary.
"""

import hashlib
import itertools
import json
import math
import struct
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from golf_core.data.byte_count import target_bytes
from golf_core.data.shards import BOS_ID
from golf_core.evaluate.windows import ScoreWindow

LEDGER_MAGIC = b"GOLFLDG1"
COMMIT, ADAPT, UNSCORED = 1, 2, 3
EVENT = np.dtype([("kind", "<i4"), ("rank", "<i4"), ("round", "<i8"), ("first", "<i8"), ("stop", "<i8")])

# What a stage was, once it is finished.
TRACK_A = "TRACK_A"  # nothing learned
SCORE_FIRST_OK = "SCORE_FIRST_OK"  # learned from nothing but what was scored before
ILLEGAL_TRAIN_BEFORE_SCORE = "ILLEGAL_TRAIN_BEFORE_SCORE"  # tokens were had before they were scored


class LedgerError(Exception):
    """An evaluation broke the order of predict, commit, adapt; the message gives the position and the rank."""


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
        keep: bool = False,
    ) -> None:
        """`part`: how many targets make a part of the stream that `parts` tells of; without it all are one.
        `keep`: each target's nats and the order of scoring and learning on this rank stay: `nll`, `order`, `learned`.
        """
        if len(tokens) < 2:
            raise LedgerError(f"{stage}: a stream of {len(tokens)} tokens has no target")
        self.stage, self.device, self.rank, self.world = stage, device, rank, world
        self.targets = len(tokens) - 1
        self.part = min(part or self.targets, self.targets)
        count = -(-self.targets // self.part)
        self._part_nats = torch.zeros(count, dtype=torch.float64, device=device)
        self._part_bytes = np.zeros(count, dtype=np.int64)
        self._tokens, self._tables = tokens, tables
        self._open: list[ScoreWindow] = []
        self._mine = np.zeros(self.targets, dtype=bool)  # predicted here, and committed but for the open ones
        self._known = np.zeros(self.targets, dtype=bool)  # committed on any rank, as of the last merge
        self._unsent: list[tuple[int, int]] = []  # runs of targets committed here since the last merge
        self._nats = torch.zeros((), dtype=torch.float64, device=device)
        self._bytes = 0
        self._round = 0
        self._events: list[tuple[int, int, int, int, int]] = []
        self._learned = False
        self.tainted = False
        self._verdict: str | None = None
        self._commits = 0
        self.nll = np.full(self.targets if keep else 0, np.nan)
        self.order = np.full(self.targets if keep else 0, -1, dtype=np.int64)  # number of the commit, from 0
        self.learned: list[int] = []  # how many commits came before each time that tokens were had to learn from

    def documents(self) -> list[tuple[int, int]]:
        """Spans [first, stop) of the targets of each document: from its BOS token, as the first input, to the next
        document's, as the last target. Where documents lie is the structure of the stream."""
        starts = np.flatnonzero(self._tokens[: self.targets] == BOS_ID).tolist()
        edges = [*([] if starts[:1] == [0] else [0]), *starts, self.targets]
        return list(itertools.pairwise(edges))

    def predict(self, windows: list[ScoreWindow], length: int | None = None) -> Tensor:
        """The inputs of windows, (windows, length), int64. They must be committed next. Windows shorter than `length`
        are filled up with zeros on the right, where no position of theirs looks; without it all are of one length."""
        if self._open:
            raise LedgerError(
                f"{self.stage}, rank {self.rank}: predict before the commit of target {self._open[0].first}"
            )
        for w in windows:
            if not 0 <= w.start <= w.first < w.stop <= self.targets:
                raise LedgerError(f"{self.stage}, rank {self.rank}: {w} is not within {self.targets} targets")
            if self._mine[w.first : w.stop].any() or self._known[w.first : w.stop].any():
                raise LedgerError(
                    f"{self.stage}, rank {self.rank}: target {w.first} or a later one of {w} is scored already"
                )
            self._mine[w.first : w.stop] = True
        self._open = list(windows)
        return self._rows([self._tokens[w.start : w.stop] for w in windows], length)

    def commit(self, logits_NV: Tensor) -> tuple[float, Tensor]:
        """Score the open windows: logits for their scored positions, window after window. Returns the number of
        targets and, revealed only now, the targets (N,)."""
        if not self._open:
            raise LedgerError(f"{self.stage}, rank {self.rank}: commit without predict")
        windows, self._open = self._open, []
        target = np.concatenate([self._tokens[w.first + 1 : w.stop + 1] for w in windows])
        previous = np.concatenate([self._tokens[w.first : w.stop] for w in windows])
        if logits_NV.ndim != 2 or logits_NV.size(0) != len(target):
            raise LedgerError(
                f"{self.stage}, rank {self.rank}: logits of shape {tuple(logits_NV.shape)} for {len(target)} targets "
                f"from {windows[0].first} on"
            )
        revealed = self._on_device(target.astype(np.int64))
        nats_N = F.cross_entropy(logits_NV.detach().float(), revealed, reduction="none").double()
        bytes_N = target_bytes(previous, target, self._tables)
        places_N = np.concatenate([np.arange(w.first, w.stop) for w in windows])
        parts_N = places_N // self.part
        self._nats += nats_N.sum()
        self._bytes += int(bytes_N.sum())
        self._part_nats.index_add_(0, self._on_device(parts_N), nats_N)
        np.add.at(self._part_bytes, parts_N, bytes_N)
        if len(self.nll):
            self.nll[places_N], self.order[places_N] = nats_N.cpu().numpy(), self._commits
        self._commits += 1
        for w in windows:
            self._record(COMMIT, w.first, w.stop)
            if self._unsent and self._unsent[-1][1] == w.first:
                self._unsent[-1] = (self._unsent[-1][0], w.stop)  # neighbours are one run: merges are over few
            else:
                self._unsent.append((w.first, w.stop))
        return len(target), revealed

    def merge(self) -> None:
        """Tell every rank what the others have committed; all ranks must call it together."""
        runs = self._unsent
        self._unsent = []
        if self.world == 1:
            gathered = [runs]
            self._round += 1
        else:
            heads = [torch.zeros(2, dtype=torch.int64, device=self.device) for _ in range(self.world)]
            dist.all_gather(heads, torch.tensor([len(runs), self._round], device=self.device))
            counts, rounds = zip(*(head.tolist() for head in heads), strict=True)
            self._round = max(rounds) + 1
            longest = max(counts)
            mine = torch.full((longest, 2), -1, dtype=torch.int64, device=self.device)
            if runs:
                mine[: len(runs)] = torch.tensor(runs, device=self.device)
            table = [torch.empty_like(mine) for _ in range(self.world)]
            if longest:
                dist.all_gather(table, mine)
            gathered = [t[:c].tolist() for t, c in zip(table, counts, strict=True)]
        for rank, part in enumerate(gathered):
            for first, stop in part:
                if self._known[first:stop].any():
                    raise LedgerError(f"{self.stage}: targets {first} to {stop - 1} of rank {rank} are scored twice")
                self._known[first:stop] = True

    def adapt(self, spans: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Inputs and targets for training, (spans, length) each, for spans [first, stop) of targets of one length.
        Every target must be committed, on whichever rank, and merged."""
        return self._training_rows(spans, self._known)

    def adapt_own(self, spans: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The same for targets that this rank itself has committed: no merge, no other rank is waited for."""
        committed = self._mine.copy() if self._open else self._mine
        for w in self._open:
            committed[w.first : w.stop] = False
        self._round += 1  # in the record, too, this comes after those commits
        return self._training_rows(spans, committed)

    def unscored_tokens(self) -> np.ndarray:
        """Every token of the stream, scored or not: what a diagnostic may look at and no submission. From here on the
        ledger is tainted, whatever is done with them."""
        self.tainted = True
        self.learned.append(self._commits)
        self._record(UNSCORED, 0, self.targets)
        return self._tokens

    def _training_rows(self, spans: list[tuple[int, int]], allowed: np.ndarray) -> tuple[Tensor, Tensor]:
        for first, stop in spans:
            if not 0 <= first < stop <= self.targets:
                raise LedgerError(
                    f"{self.stage}, rank {self.rank}: span {first} to {stop} is not within {self.targets} targets"
                )
            if not allowed[first:stop].all():
                unscored = first + int(np.argmin(allowed[first:stop]))
                raise LedgerError(
                    f"{self.stage}, rank {self.rank}: target {unscored} would be learned from before it is scored"
                )
            self._record(ADAPT, first, stop)
        self._learned = True
        self.learned.append(self._commits)
        x = self._rows([self._tokens[first:stop] for first, stop in spans])
        y = self._rows([self._tokens[first + 1 : stop + 1] for first, stop in spans])
        return x, y

    def running_bpb(self) -> float:
        """Bits per byte of what this rank has committed so far."""
        return float(self._nats) / math.log(2) / max(self._bytes, 1)

    def finish(self) -> Score:
        """The stage's score over all ranks, once every target is scored. All ranks must call it together."""
        if self._open:
            raise LedgerError(
                f"{self.stage}, rank {self.rank}: target {self._open[0].first} was predicted and never committed"
            )
        self.merge()
        if not self._known.all():
            missing = int(np.argmin(self._known))
            raise LedgerError(f"{self.stage}: target {missing} of {self.targets} was never scored")
        here = [float(self._nats), float(self._bytes), float(self._learned), float(self.tainted)]
        sums = torch.tensor(here, dtype=torch.float64, device=self.device)
        if self.world > 1:
            dist.all_reduce(sums)
        nats, count, learned, tainted = sums.tolist()
        self._verdict = ILLEGAL_TRAIN_BEFORE_SCORE if tainted else SCORE_FIRST_OK if learned else TRACK_A
        if count <= 0:
            raise LedgerError(f"{self.stage}: the targets hold no bytes")
        return Score(nats / self.targets, nats / math.log(2) / count, self.targets, round(count))

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
        if self._verdict is None:
            raise LedgerError(f"{self.stage}, rank {self.rank}: a stage that is not finished has no verdict")
        return self._verdict

    def _record(self, kind: int, first: int, stop: int) -> None:
        last = self._events[-1] if self._events else None
        if last and last[:3] == (kind, self.rank, self._round) and last[4] == first:
            self._events[-1] = (*last[:4], stop)  # neighbours are one run
        else:
            self._events.append((kind, self.rank, self._round, first, stop))

    def _rows(self, rows: list[np.ndarray], length: int | None = None) -> Tensor:
        table = np.zeros((len(rows), len(rows[0]) if length is None else length), dtype=np.int64)
        for row, tokens in zip(table, rows, strict=True):
            if len(tokens) > len(row) or (length is None and len(tokens) < len(row)):
                raise LedgerError(f"{self.stage}, rank {self.rank}: {len(tokens)} tokens in a row of {len(row)}")
            row[: len(tokens)] = tokens
        return self._on_device(table)

    def _on_device(self, values: np.ndarray) -> Tensor:
        """A GPU's host does not wait: it copies from pinned memory, which torch keeps until the copy is done."""
        tensor = torch.from_numpy(values)
        if self.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=True)

    def event_bytes(self) -> bytes:
        """All ranks' events in order of rounds, packed; all ranks must call it together. Empty but on rank 0."""
        events = np.array(self._events, dtype=EVENT)
        if self.world > 1:
            mine = torch.from_numpy(np.frombuffer(events.tobytes(), dtype=np.uint8).copy()).to(self.device)
            counts = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world)]
            dist.all_gather(counts, torch.tensor([mine.numel()], device=self.device))
            padded = torch.zeros(max(int(c) for c in counts), dtype=torch.uint8, device=self.device)
            padded[: mine.numel()] = mine
            parts = [torch.empty_like(padded) for _ in range(self.world)]
            dist.all_gather(parts, padded)
            blobs = [p[: int(c)].cpu().numpy().tobytes() for p, c in zip(parts, counts, strict=True)]
            events = np.concatenate([np.frombuffer(b, dtype=EVENT) for b in blobs])
        if self.rank != 0:
            return b""
        return events[np.lexsort((events["first"], events["rank"], events["kind"], events["round"]))].tobytes()


def encode_ledger(stages: list[tuple[str, Score, str, bytes]]) -> bytes:
    """score_ledger.bin: magic, length and JSON of the stages (name, score, verdict), their events, and a SHA-256 of
    all before it."""
    heads = [
        {
            "stage": name,
            "nats": s.val_loss * s.tokens,
            "tokens": s.tokens,
            "bytes": s.bytes,
            "verdict": verdict,
            "event_bytes": len(events),
        }
        for name, s, verdict, events in stages
    ]
    head = json.dumps(heads).encode()
    body = LEDGER_MAGIC + struct.pack("<Q", len(head)) + head + b"".join(events for *_, events in stages)
    return body + hashlib.sha256(body).digest()
