"""The tokens of one evaluation, in the keeping of one object that hands out what may be seen, and counts it.

An evaluation gets the inputs of windows that it has declared, and training rows of targets that are committed; the
targets of a window only the ledger's own commit gets (`reveal`). Whatever is handed out is a copy.

What this guarantees and what not: through its methods nobody learns from a target before it is scored, nobody scores
one twice, and every token that left is counted by purpose, which the ledger's record tells. The inputs of a window are
also the targets of its earlier positions, since that is what a causal model reads: whether a model looks ahead within
them only a probe can tell, and what is made of them before the commit the digests of the weights can. `documents`
tells where documents begin in the whole stream, those not yet scored included. And it is one process: code that reads
the private field, the caller's array or the shards on disk is not stopped here, it is plain to see in the source, and
a probe that changes later tokens finds what it gains.
"""

import itertools

import numpy as np

from golf_core.data.shards import BOS_ID
from golf_core.evaluate.windows import ScoreWindow

DECLARED, COMMITTED = 1, 2
PURPOSES = ("inputs", "targets", "learned", "unscored")

Span = tuple[int, int]  # of targets, [first, stop)


class LedgerError(Exception):
    """An evaluation broke the order of predict, commit, adapt; the message gives the position and the rank."""


class TokenStore:
    """One stream of tokens. Target i is token i + 1; its input is token i."""

    def __init__(self, place: str, tokens: np.ndarray, context: int | None) -> None:
        """`place` names stage and rank in messages; a window is at most `context` tokens long, if that is given."""
        if len(tokens) < 2:
            raise LedgerError(f"{place}: a stream of {len(tokens)} tokens has no target")
        self.place, self.context, self.targets = place, context, len(tokens) - 1
        self.reads = dict.fromkeys(PURPOSES, 0)  # tokens handed out, by purpose
        self.__tokens = tokens
        self.__state = np.zeros(self.targets, dtype=np.uint8)  # on this rank
        self.__known = np.zeros(self.targets, dtype=np.bool_)  # committed on any rank, as of the last merge

    def documents(self) -> list[Span]:
        """Spans [first, stop) of the targets of each document: from its BOS token, as the first input, to the next
        document's, as the last target. Where documents lie is the structure of the stream."""
        starts = np.flatnonzero(self.__tokens[: self.targets] == BOS_ID).tolist()
        edges = [*([] if starts[:1] == [0] else [0]), *starts, self.targets]
        return list(itertools.pairwise(edges))

    def inputs(self, windows: list[ScoreWindow]) -> list[np.ndarray]:
        """The inputs of windows, which are declared by this: their targets must be revealed next, and only once."""
        for w in windows:
            if not 0 <= w.start <= w.first < w.stop <= self.targets:
                raise LedgerError(f"{self.place}: {w} is not within {self.targets} targets")
            if self.context is not None and w.stop - w.start > self.context:
                raise LedgerError(f"{self.place}: {w} reads {w.stop - w.start} tokens, more than {self.context}")
            here, known = self.__state[w.first : w.stop], self.__known[w.first : w.stop]
            if here.any() or known.any():
                again = w.first + int(np.argmax(here.astype(np.bool_) | known))
                raise LedgerError(f"{self.place}: target {again} of {w} is scored already")
            self.__state[w.first : w.stop] = DECLARED
        return [self._handed_out("inputs", w.start, w.stop) for w in windows]

    def reveal(self, windows: list[ScoreWindow]) -> tuple[np.ndarray, np.ndarray]:
        """The targets of declared windows, window after window, and the token before each. Committed from here on."""
        runs = join_neighbours([(w.first, w.stop) for w in windows], [])
        for first, stop in runs:
            if not (self.__state[first:stop] == DECLARED).all():
                wrong = first + int(np.argmax(self.__state[first:stop] != DECLARED))
                raise LedgerError(f"{self.place}: target {wrong} would be revealed without a prediction")
            self.__state[first:stop] = COMMITTED
        target = np.concatenate([self._handed_out("targets", first + 1, stop + 1) for first, stop in runs])
        return np.concatenate([self.__tokens[first:stop] for first, stop in runs]), target

    def learn(self, spans: list[Span], own: bool) -> list[np.ndarray]:
        """Tokens [first, stop] of each span: inputs and targets of what is committed, here (`own`) or merged."""
        for first, stop in spans:
            if not 0 <= first < stop <= self.targets:
                raise LedgerError(f"{self.place}: span {first} to {stop} is not within {self.targets} targets")
            allowed = self.__state[first:stop] == COMMITTED if own else self.__known[first:stop]
            if not allowed.all():
                unscored = first + int(np.argmin(allowed))
                raise LedgerError(f"{self.place}: target {unscored} would be learned from before it is scored")
        rows = [self._handed_out("learned", first, stop + 1) for first, stop in spans]
        self.reads["learned"] -= len(spans)  # counted are targets
        return rows

    def merge(self, runs: list[tuple[int, int, int]]) -> None:
        """Targets (rank, first, stop) that ranks have committed since the last merge."""
        for rank, first, stop in runs:
            if self.__known[first:stop].any():
                twice = first + int(np.argmax(self.__known[first:stop]))
                raise LedgerError(f"{self.place}: target {twice} is scored twice, the second time by rank {rank}")
            self.__known[first:stop] = True

    def missing(self) -> int | None:
        """The first target that no rank has committed, as of the last merge."""
        return None if self.__known.all() else int(np.argmin(self.__known))

    def everything(self) -> np.ndarray:
        """Every token of the stream, scored or not: the way around the order, and it is counted as such."""
        return self._handed_out("unscored", 0, self.targets + 1)

    def _handed_out(self, purpose: str, first: int, stop: int) -> np.ndarray:
        self.reads[purpose] += stop - first
        return self.__tokens[first:stop].copy()


def join_neighbours(runs: list[Span], onto: list[Span]) -> list[Span]:
    """`onto` with the runs at its end; those that touch are one."""
    for first, stop in runs:
        if onto and onto[-1][1] == first:
            onto[-1] = (onto[-1][0], stop)
        else:
            onto.append((first, stop))
    return onto
