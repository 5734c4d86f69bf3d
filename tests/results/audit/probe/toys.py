"""A toy language and the parts of toy evaluators: a bigram model whose weights can learn, and documents to score.

Ids: 0 nothing, 1 the start of a document, 2 to 9 begin a word, 10 to 23 go on with it.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BOS, VOCAB, FIRST_INSIDE = 1, 24, 10
LENGTHS = (44, 23, 61, 37, 52, 29, 48)
MEMORY = 3  # tokens that the model sees


def language(seed: int = 0) -> np.ndarray:
    """Logits of the token that follows each: what the artifact holds."""
    weights = np.random.default_rng(seed).normal(0, 1.3, (VOCAB, VOCAB))
    weights[:, :2] = -6.0, -2.0
    return weights


def text(lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> np.ndarray:
    """Documents of these lengths, each with words of its own that it likes."""
    random, weights, found = np.random.default_rng(seed), language(), []
    for length in lengths:
        own = weights + random.normal(0, 0.6, VOCAB)
        found.append(BOS)
        for _ in range(length - 1):
            p = np.exp(own[found[-1], 2:])
            found.append(2 + int(random.choice(VOCAB - 2, p=p / p.sum())))
    return np.array(found, dtype=np.int64)


def load(artifact: Path) -> np.ndarray:
    return np.load(artifact, allow_pickle=False)


def log_softmax(z: np.ndarray) -> np.ndarray:
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def log_probs(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Of every token after each input, with a fading memory of the inputs before it."""
    z = weights[inputs].copy()
    for back in range(1, MEMORY):
        z[back:] += 0.3**back * weights[inputs[:-back]]
    return log_softmax(z)


def learn_from(weights: np.ndarray, x: np.ndarray, y: np.ndarray, rate: float) -> None:
    """One step of gradient descent, in place."""
    error = np.exp(log_softmax(weights[x]))
    error[np.arange(len(y)), y] -= 1
    np.add.at(weights, x, -rate * error)


def wanted(y: np.ndarray, learn: str) -> np.ndarray:
    """The targets that are learned from: shuffled ones are each another id."""
    return (y * 7 + 3) % VOCAB if learn == "shuffled" else y


def rate_of(learn: str, rate: float) -> float:
    return 0.0 if learn == "off" else rate


def spans(targets: int, size: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + size, targets)) for first in range(0, targets, size))


def documents(tokens: np.ndarray) -> list[tuple[int, int]]:
    """Targets [first, stop) of each document."""
    starts = np.flatnonzero(tokens[:-1] == BOS).tolist()
    return list(zip(starts, [*starts[1:], len(tokens) - 1], strict=True))


class Sheet:
    """Where an evaluator notes its scores."""

    def __init__(self, targets: int) -> None:
        self.nll, self.order = np.full(targets, np.nan), np.full(targets, -1, dtype=np.int64)
        self.commits, self.learned = 0, []

    def commit(self, *parts: tuple[int, int, np.ndarray]) -> None:
        """(first, stop, their losses), scored at once."""
        for first, stop, nll in parts:
            self.nll[first:stop], self.order[first:stop] = nll, self.commits
        self.commits += 1

    def adapted(self) -> None:
        self.learned.append(self.commits)

    def told(self) -> dict[str, np.ndarray]:
        return {"nll": self.nll, "order": self.order, "learned": np.array(self.learned, dtype=np.int64)}


class Counts:
    """How often tokens followed others, as far as they were given; a normalised distribution of it."""

    def __init__(self) -> None:
        self.pairs = np.zeros((VOCAB, VOCAB))

    def add(self, x: np.ndarray, y: np.ndarray, weight: float = 1.0) -> None:
        np.add.at(self.pairs, (x, y), weight)

    def probs(self, x: np.ndarray) -> np.ndarray:
        rows = self.pairs[x] + 0.05
        return rows / rows.sum(1, keepdims=True)

    def seen(self, x: np.ndarray) -> np.ndarray:
        return self.pairs[x].sum(1)


def losses(log_p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -log_p[np.arange(len(y)), y]


def bits_a_token(nll: np.ndarray) -> float:
    return float(nll.mean() / math.log(2))
