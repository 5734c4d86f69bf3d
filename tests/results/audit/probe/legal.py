"""Evaluators that score legally, each the twin of a cheat in cheats.py. All compute their scores from the tokens."""

import numpy as np

from tests.results.audit.probe.toys import (
    FIRST_INSIDE,
    Counts,
    Sheet,
    documents,
    learn_from,
    load,
    log_probs,
    losses,
    rate_of,
    spans,
    wanted,
)

RATE, WINDOW, CHUNK, STRIDE = 0.02, 16, 48, 8


def frozen(artifact, tokens, learn="on"):
    """Windows that know nothing of each other."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    for first, stop in spans(len(tokens) - 1, WINDOW):
        sheet.commit((first, stop, losses(log_probs(weights, tokens[first:stop]), tokens[first + 1 : stop + 1])))
    return sheet.told()


def sliding(artifact, tokens, learn="on"):
    """Overlapping windows, of which each scores its last targets; four of them a commit."""
    weights, sheet, targets = load(artifact), Sheet(len(tokens) - 1), len(tokens) - 1
    pending = []
    for first, stop in spans(targets, STRIDE):
        start = max(0, stop - WINDOW)
        log_p = log_probs(weights, tokens[start:stop])[first - start :]
        pending.append((first, stop, losses(log_p, tokens[first + 1 : stop + 1])))
        if len(pending) == 4 or stop == targets:
            sheet.commit(*pending)
            pending = []
    return sheet.told()


def chunk_ttt(artifact, tokens, learn="on"):
    """Scores a chunk in windows, then learns from it in two epochs."""
    weights, sheet, targets = load(artifact), Sheet(len(tokens) - 1), len(tokens) - 1
    for low, high in spans(targets, CHUNK):
        for first, stop in spans(high - low, WINDOW):
            x, y = tokens[low + first : low + stop], tokens[low + first + 1 : low + stop + 1]
            sheet.commit((low + first, low + stop, losses(log_probs(weights, x), y)))
        if high < targets:
            sheet.adapted()
            for _ in range(2):
                y = wanted(tokens[low + 1 : high + 1], learn)
                learn_from(weights, tokens[low:high], y, rate_of(learn, RATE))
    return sheet.told()


def by_documents(weights, tokens, sheet, batch, learn, size=12):
    """Scores a batch of documents side by side; each learns from its own scored chunks and forgets at its end."""
    own = {document: weights.copy() for document in batch}
    for step in range(0, max(stop - first for first, stop in batch), size):
        going = [(first, stop) for first, stop in batch if stop - first > step]
        parts = []
        for first, stop in going:
            end = min(first + step + size, stop)
            log_p = log_probs(own[first, stop], tokens[first:end])[step:]
            parts.append((first + step, end, losses(log_p, tokens[first + step + 1 : end + 1])))
        sheet.commit(*parts)
        sheet.adapted()
        for (first, stop), (low, high, _) in zip(going, parts, strict=True):
            y = wanted(tokens[low + 1 : high + 1], learn)
            learn_from(own[first, stop], tokens[low:high], y, rate_of(learn, RATE))


def queue(tokens, size=3):
    """Batches of documents of similar length."""
    ordered = sorted(documents(tokens), key=lambda one: (one[1] - one[0], one[0]))
    return [ordered[low : low + size] for low in range(0, len(ordered), size)]


def lora_sorted(artifact, tokens, learn="on"):
    """Per document, in order of length: scored in another order than the stream's."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    for batch in queue(tokens):
        by_documents(weights, tokens, sheet, batch, learn)
    return sheet.told()


def phased(artifact, tokens, learn="on"):
    """The same; and after each batch all weights learn from the documents that are scored."""
    weights, sheet, done = load(artifact), Sheet(len(tokens) - 1), []
    for batch in queue(tokens):
        by_documents(weights, tokens, sheet, batch, learn)
        done += batch
        sheet.adapted()
        for first, stop in done:
            y = wanted(tokens[first + 1 : stop + 1], learn)
            learn_from(weights, tokens[first:stop], y, rate_of(learn, RATE / 4))
    return sheet.told()


def mixed(artifact, tokens, learn, weight_of, size=8, fade=1.0):
    """A normalised mixture of the model and of counts of what was scored; its weight by what stands before."""
    weights, sheet, counts = load(artifact), Sheet(len(tokens) - 1), Counts()
    for first, stop in spans(len(tokens) - 1, size):
        x, y = tokens[first:stop], tokens[first + 1 : stop + 1]
        share = weight_of(counts, x)[:, None]
        p = (1 - share) * np.exp(log_probs(weights, x)) + share * counts.probs(x)
        sheet.commit((first, stop, losses(np.log(p), y)))
        sheet.adapted()
        counts.pairs *= fade
        counts.add(x, wanted(y, learn), 0.0 if learn == "off" else 1.0)
    return sheet.told()


def ngram_mixture(artifact, tokens, learn="on"):
    return mixed(artifact, tokens, learn, lambda counts, x: 0.1 * counts.seen(x) / (counts.seen(x) + 60))


def fading_cache(artifact, tokens, learn="on"):
    return mixed(artifact, tokens, learn, lambda counts, x: np.full(len(x), 0.05), fade=0.95)


def context_gate(artifact, tokens, learn="on"):
    """The gate looks at the token before, and at the model's own entropy: never at the target."""

    def gate(counts, x):
        return np.where((x >= FIRST_INSIDE) & (counts.seen(x) > 0), 0.05, 0.0)

    return mixed(artifact, tokens, learn, gate)


def frozen_isolated(artifact, tokens, learn="on"):
    """Each document alone, in order of length, nothing learned."""
    weights, sheet = load(artifact), Sheet(len(tokens) - 1)
    for batch in queue(tokens):
        sheet.commit(
            *[
                (first, stop, losses(log_probs(weights, tokens[first:stop]), tokens[first + 1 : stop + 1]))
                for first, stop in batch
            ]
        )
    return sheet.told()


LEGAL = {
    one.__name__: one
    for one in (
        *(frozen, sliding, chunk_ttt, lora_sorted, phased, ngram_mixture, fading_cache, context_gate),
        frozen_isolated,
    )
}
