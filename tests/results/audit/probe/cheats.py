"""Evaluators that cheat, each as one was seen in the challenge. All compute their scores from the tokens; what they
tell of their order is what they would claim."""

import numpy as np

from tests.results.audit.probe.legal import CHUNK, RATE, WINDOW, by_documents, queue
from tests.results.audit.probe.toys import (
    FIRST_INSIDE,
    VOCAB,
    Counts,
    Sheet,
    learn_from,
    load,
    log_probs,
    log_softmax,
    losses,
    rate_of,
    spans,
    wanted,
)


def windows(weights, tokens, sheet):
    for first, stop in spans(len(tokens) - 1, WINDOW):
        sheet.commit((first, stop, losses(log_probs(weights, tokens[first:stop]), tokens[first + 1 : stop + 1])))
    return sheet.told()


def train_before_score(artifact, tokens, learn="on"):
    """Learns from all of the text, then scores it."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    sheet.adapted()
    for _ in range(3):
        learn_from(weights, tokens[:-1], wanted(tokens[1:], learn), rate_of(learn, RATE))
    return windows(weights, tokens, sheet)


def train_chunk_first(artifact, tokens, learn="on"):
    """Learns from each chunk just before it is scored, all of it in one commit."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    for low, high in spans(len(tokens) - 1, CHUNK):
        sheet.adapted()
        learn_from(weights, tokens[low:high], wanted(tokens[low + 1 : high + 1], learn), rate_of(learn, RATE))
        sheet.commit((low, high, losses(log_probs(weights, tokens[low:high]), tokens[low + 1 : high + 1])))
    return sheet.told()


def last_epoch(artifact, tokens, learn="on"):
    """Three epochs, each score-first; the scores of the last are told."""
    weights = load(artifact)
    for _ in range(3):
        sheet = Sheet(len(tokens) - 1)
        for low, high in spans(len(tokens) - 1, CHUNK):
            sheet.commit((low, high, losses(log_probs(weights, tokens[low:high]), tokens[low + 1 : high + 1])))
            sheet.adapted()
            learn_from(weights, tokens[low:high], wanted(tokens[low + 1 : high + 1], learn), rate_of(learn, RATE))
    return sheet.told()


def mixture(weights, tokens, counts, first, stop, share):
    x = tokens[first:stop]
    p = (1 - share) * np.exp(log_probs(weights, x)) + share * counts.probs(x)
    return losses(np.log(p), tokens[first + 1 : stop + 1])


def two_pass(artifact, tokens, learn="on"):
    """Counts all of the text in a first pass, and scores with the counts in a second."""
    weights, sheet, counts = load(artifact), Sheet(len(tokens) - 1), Counts()
    counts.add(tokens[:-1], wanted(tokens[1:], learn), rate_of(learn, 1.0))
    for first, stop in spans(len(tokens) - 1, WINDOW):
        sheet.commit((first, stop, mixture(weights, tokens, counts, first, stop, 0.3)))
        sheet.adapted()
    return sheet.told()


def hashed_cache(artifact, tokens, learn="on", buckets=32):
    """Counts under a hash of context and target, looked up for the target alone: what collides counts for it too."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    contexts, pairs = np.zeros(buckets), np.zeros(buckets)
    for first, stop in spans(len(tokens) - 1, 4):
        x, y = tokens[first:stop], tokens[first + 1 : stop + 1]
        context = x * 40_503 % buckets
        pair = (x * 40_503 ^ y * 36_313) % buckets
        ratio = np.minimum(pairs[pair] / np.maximum(contexts[context], 1), 1.0)
        share = np.where(contexts[context] > 0, 0.4, 0.0)
        p = (1 - share) * np.exp(-losses(log_probs(weights, x), y)) + share * ratio
        sheet.commit((first, stop, -np.log(p)))
        sheet.adapted()
        if learn != "off":
            np.add.at(contexts, context, 1)
            np.add.at(pairs, (x * 40_503 ^ wanted(y, learn) * 36_313) % buckets, 1)
    return sheet.told()


def scored_with_counts(artifact, tokens, learn, score):
    """Causal counts; `score` gives the losses from both experts' log probabilities and the targets."""
    weights, sheet, counts = load(artifact), Sheet(len(tokens) - 1), Counts()
    for first, stop in spans(len(tokens) - 1, 8):
        x, y = tokens[first:stop], tokens[first + 1 : stop + 1]
        sheet.commit((first, stop, score(log_probs(weights, x), np.log(counts.probs(x)), y)))
        sheet.adapted()
        counts.add(x, wanted(y, learn), rate_of(learn, 1.0))
    return sheet.told()


def oracle_minimum(artifact, tokens, learn="on"):
    """The better of two experts at each target, chosen by the target."""
    return scored_with_counts(artifact, tokens, learn, lambda a, b, y: np.minimum(losses(a, y), losses(b, y)))


def word_start_gate(artifact, tokens, learn="on"):
    """The counts weigh more where the target begins a word: a property of what is scored."""

    def score(a, b, y):
        share = np.where(y < FIRST_INSIDE, 0.05, 0.5)[:, None]
        return losses(np.log((1 - share) * np.exp(a) + share * np.exp(b)), y)

    return scored_with_counts(artifact, tokens, learn, score)


def spread_over_bytes(artifact, tokens, learn="on"):
    """A token's probability p is taken for p^(1/n) at each of its n bytes, and mixed there with what bytes of the
    scored text followed the byte before."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    spelled = [[token % 7, *(7 + (token + at) % 3 for at in range(token % 4))] for token in range(VOCAB)]
    counts = np.full((11, 10), 0.1)
    for first, stop in spans(len(tokens) - 1, 8):
        x, y = tokens[first:stop], tokens[first + 1 : stop + 1]
        nll, of_token = np.zeros(len(y)), np.exp(-losses(log_probs(weights, x), y))
        for at, token in enumerate(y.tolist()):
            share = of_token[at] ** (1 / len(spelled[token]))
            follows = zip([10, *spelled[token]], spelled[token], strict=False)
            nll[at] = -sum(np.log(0.7 * share + 0.3 * counts[one] / counts[one[0]].sum()) for one in follows)
        sheet.commit((first, stop, nll))
        sheet.adapted()
        for token in y.tolist() if learn != "off" else []:
            for one in zip([10, *spelled[token]], spelled[token], strict=False):
                counts[one] += 1
    return sheet.told()


def slot(artifact, tokens, learn="on"):
    """Fits a bias to the window that it scores, and scores with it."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    for first, stop in spans(len(tokens) - 1, WINDOW):
        z, y, delta = log_probs(weights, tokens[first:stop]), tokens[first + 1 : stop + 1], np.zeros(VOCAB)
        for _ in range(5):
            p = np.exp(log_softmax(z + delta))
            np.add.at(p, (np.arange(len(y)), wanted(y, learn)), -1)
            delta -= rate_of(learn, 0.1) * p.sum(0)
        sheet.commit((first, stop, losses(log_softmax(z + delta), y)))
    return sheet.told()


def calibrated_on_validation(artifact, tokens, learn="on"):
    """A bias from how often tokens are in the text to be scored, as a calibration would have it."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    often = np.bincount(tokens[: len(tokens) // 2], minlength=VOCAB) + 1.0
    if learn != "off":
        weights = weights + 0.3 * np.log(often / often.sum())
    return windows(weights, tokens, sheet)


def leaking_documents(artifact, tokens, learn="on"):
    """Documents by length; the start of each takes some of the token before it, the end of the one before."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    for batch in queue(tokens):
        parts = []
        for first, stop in batch:
            z = log_probs(weights, tokens[first:stop])
            if first:
                z[0] += 0.8 * weights[tokens[first - 1]]
            parts.append((first, stop, losses(log_softmax(z), tokens[first + 1 : stop + 1])))
        sheet.commit(*parts)
    return sheet.told()


class TokenOwner:
    """A ledger that gives targets only when they are scored; but Python hides nothing."""

    def __init__(self, tokens):
        self._tokens, self.sheet, self.scored = tokens, Sheet(len(tokens) - 1), 0

    def predict(self, count):
        return self._tokens[self.scored : self.scored + count]

    def commit(self, log_p):
        first, stop = self.scored, self.scored + len(log_p)
        self.sheet.commit((first, stop, losses(log_p, self._tokens[first + 1 : stop + 1])))
        self.scored = stop

    def adapt(self, first, stop):
        if stop > self.scored:
            raise ValueError(f"target {stop - 1} is not scored")
        self.sheet.adapted()
        return self._tokens[first:stop], self._tokens[first + 1 : stop + 1]


def behind_the_ledger(artifact, tokens, learn="on"):
    """Asks the ledger for what is scored, and learns from its memory of what is not."""
    weights, owner = load(artifact), TokenOwner(tokens)
    for low, high in spans(len(tokens) - 1, CHUNK):
        for first, stop in spans(high - low, WINDOW):
            owner.commit(log_probs(weights, owner.predict(stop - first)))
        owner.adapt(low, high)
        ahead = owner._tokens[high : high + CHUNK + 1]
        learn_from(weights, ahead[:-1], wanted(ahead[1:], learn), rate_of(learn, RATE))
    return owner.sheet.told()


def phased_ahead(artifact, tokens, learn="on"):
    """Phases as in the legal twin; but all weights learn from the documents whose turn comes next."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    batches = queue(tokens)
    for batch, following in zip(batches, [*batches[1:], []], strict=True):
        by_documents(weights, tokens, sheet, batch, learn)
        sheet.adapted()
        for first, stop in following:
            y = wanted(tokens[first + 1 : stop + 1], learn)
            learn_from(weights, tokens[first:stop], y, rate_of(learn, RATE))
    return sheet.told()


CHEATS = {
    one.__name__: one
    for one in (
        *(train_before_score, train_chunk_first, last_epoch, two_pass, hashed_cache, oracle_minimum, word_start_gate),
        *(spread_over_bytes, slot, calibrated_on_validation, leaking_documents, behind_the_ledger, phased_ahead),
    )
}
