"""A plain n-gram model of a text, to draw tokens from that an evaluator may find likely.

An importance-sampled sum is only as sharp as what is drawn from is near to what is summed. Trigrams give way to
bigrams, these to single tokens, these to all ids of the vocabulary alike, so that none has probability 0.
"""

import numpy as np
import numpy.typing as npt

from results.audit.probe.scorer import Floats, Ints
from results.audit.probe.stream import BOS

MAX_TOKENS = 2_000_000  # of a text that are counted
TRUST = 16.0  # counts a distinct follower, after which a longer context weighs as much as the shorter one
EVEN = 0.3  # of the weight of single tokens, for all ids alike: a few rare ids would else make up most of the variance


class Contexts:
    """Which tokens follow a context, and how often."""

    def __init__(self, keys: Ints, following: Ints) -> None:
        order = np.lexsort((following, keys))
        keys, following = keys[order], following[order]
        first = np.ones(len(keys), dtype=np.bool_)
        first[1:] = (keys[1:] != keys[:-1]) | (following[1:] != following[:-1])
        at = np.flatnonzero(first)
        self.following = following[at]
        self.counts = np.diff(np.append(at, len(keys))).astype(np.float64)
        self.keys, starts = np.unique(keys[at], return_index=True)
        self.starts = np.append(starts, len(at))

    def after(self, key: int) -> tuple[Ints, Floats] | None:
        place = int(np.searchsorted(self.keys, key))
        if place == len(self.keys) or self.keys[place] != key:
            return None
        part = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.following[part], self.counts[part]


class Proposal:
    """Draws a token after two others, never a document start, and tells with what probability."""

    def __init__(self, text: npt.NDArray[np.integer], vocab: int) -> None:
        tokens = np.asarray(text[:MAX_TOKENS], dtype=np.int64)
        usable = tokens[2:] != BOS
        self.vocab = vocab
        self.single = np.bincount(tokens[tokens != BOS], minlength=vocab).astype(np.float64)
        self.single = (1 - EVEN) * self.single / self.single.sum() + EVEN / (vocab - 1)
        self.single[BOS] = 0.0
        self.single /= self.single.sum()
        self.cumulative = np.cumsum(self.single)
        self.levels = (
            Contexts((tokens[:-2] * vocab + tokens[1:-1])[usable], tokens[2:][usable]),
            Contexts(tokens[1:-1][usable], tokens[2:][usable]),
        )

    def draw(self, before: int, previous: int, random: np.random.Generator) -> tuple[int, float]:
        """(token, its probability)."""
        weight, parts = 1.0, []
        for contexts, key in zip(self.levels, (before * self.vocab + previous, previous), strict=True):
            if (found := contexts.after(key)) is not None:
                total = found[1].sum()
                share = weight * total / (total + TRUST * len(found[1]))
                parts.append((share, found[0], found[1] / total))
                weight -= share
        token, place = -1, random.random()
        for share, tokens, probabilities in parts:
            if token < 0 and place < share:
                token = int(tokens[min(int(np.searchsorted(np.cumsum(probabilities), place / share)), len(tokens) - 1)])
            place -= share
        if token < 0:
            token = min(int(np.searchsorted(self.cumulative, random.random() * self.cumulative[-1])), self.vocab - 1)
        probability = weight * float(self.single[token])
        for share, tokens, probabilities in parts:
            at = int(np.searchsorted(tokens, token))
            if at < len(tokens) and tokens[at] == token:
                probability += share * float(probabilities[at])
        return token, probability
