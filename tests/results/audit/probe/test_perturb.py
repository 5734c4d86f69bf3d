"""What may be changed for a cut, and what must then stay: held against the definition, on orders of every kind."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from results.audit.probe.perturb import BOS, Cut, backward_segments, changeable, layout_of, replaced, unmoved
from results.audit.probe.proposal import Proposal
from results.audit.probe.scorer import StreamScore
from results.audit.probe.stream import documents_of, whole_documents

documents = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@st.composite
def walks(draw):
    """A stream, and an order in which an evaluator may have scored it."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    tokens = np.concatenate([[BOS, *random.integers(2, 12, length)] for length in draw(documents)] + [[5, 6]])
    targets = len(tokens) - 1
    kind = draw(st.sampled_from(["forward", "sorted", "backward", "any"]))
    order = np.sort(random.integers(0, 5, targets))
    if kind == "sorted":
        document = documents_of(tokens)
        first = np.searchsorted(document, document)
        order = 4 * random.permutation(document.max() + 1)[document] + (np.arange(targets) - first) // 3
    elif kind == "backward":
        order = order[::-1].copy()
    elif kind == "any":
        order = random.permutation(order)
    _, order = np.unique(order, return_inverse=True)
    return tokens, StreamScore(np.zeros(targets), order.astype(np.int64), np.zeros(0, dtype=np.int64))


cuts = st.builds(Cut, st.integers(0, 8), st.floats(0, 0.99))


def may_know(layout, i: int, j: int) -> bool:
    """Whether a legal evaluator may know the token of target j when it scores target i: by definition."""
    if layout.segment[i] == layout.segment[j]:
        return j < i
    same = np.flatnonzero(layout.segment == layout.segment[j])
    return any(layout.order[k] < layout.order[i] for k in same if k >= j)


@settings(max_examples=60)
@given(walks(), cuts)
def test_a_score_must_stay_just_where_it_may_not_know(walk, cut):
    """By the definition: no changed token stands in its own segment's prefix, or was an input of another segment's
    commit before its own. Nothing else is left out."""
    layout = layout_of(*walk)
    changed = changeable(layout, cut)
    kept = unmoved(layout, changed)
    for i in range(len(kept)):
        knows = any(may_know(layout, i, j) for j in np.flatnonzero(changed))
        assert kept[i] == (not knows and not changed[i])


@settings(max_examples=80)
@given(walks(), cuts, st.integers(0, 99))
def test_documents_stay_where_they_are(walk, cut, seed):
    """A perturbed stream has the same starts and lengths, no new start, and another token just where it was to be."""
    tokens, score = walk
    layout = layout_of(tokens, score)
    changed = changeable(layout, cut)
    stream = replaced(tokens, changed, np.random.default_rng(seed))
    assert np.array_equal(stream == BOS, tokens == BOS) and len(stream) == len(tokens)
    assert np.array_equal(np.flatnonzero(stream != tokens), np.flatnonzero(changed) + 1)
    assert np.isin(stream, tokens).all()


@given(walks(), cuts)
def test_what_was_committed_before_the_cut_is_not_changed(walk, cut):
    """Nor what was an input of it."""
    layout = layout_of(*walk)
    changed = changeable(layout, cut)
    assert not changed[layout.order < cut.commit].any()
    for j in np.flatnonzero(changed):
        same = layout.segment == layout.segment[j]
        assert not (same & (layout.order < cut.commit))[j:].any()


@given(documents, st.integers(0, 8), st.floats(0, 0.99))
def test_a_stream_scored_in_its_order_is_cut_in_two(lengths, commit, part):
    """There all that follows the cut may change, and all that precedes it must stay."""
    tokens = np.concatenate([[BOS, *[3] * length] for length in lengths] + [[5, 6]])
    order = np.arange(len(tokens) - 1) // 4
    layout = layout_of(tokens, StreamScore(np.zeros(len(order)), order, np.zeros(0, dtype=np.int64)))
    changed = changeable(layout, Cut(commit, part))
    kept = unmoved(layout, changed)
    assert not layout.by_document and not len(backward_segments(layout))
    if changed.any():
        first = int(np.argmax(changed))
        assert kept[:first].all() and not kept[first:].any()
        assert (changed | (tokens[1:] == BOS))[first:].all()


@given(documents, st.integers(16, 60))
def test_a_stream_is_made_of_whole_documents(lengths, wanted):
    """Each is one of the shard's, uncut, in the shard's order."""
    random = np.random.default_rng(0)
    parts = [np.array([BOS, *random.integers(2, 60_000, length)]) for length in [*lengths, 7, 8, 9, 7, 8, 9]]
    stream = whole_documents(np.concatenate([*parts, [BOS]]).astype(np.uint16), wanted)
    starts = [*np.flatnonzero(stream == BOS).tolist(), len(stream)]
    taken = [stream[a:b].tolist() for a, b in itertools.pairwise(starts)]
    given_parts = iter([part.tolist() for part in parts])
    assert all(one in given_parts for one in taken) and len(taken) >= 3


@settings(max_examples=20)
@given(st.integers(0, 99))
def test_a_proposal_tells_with_what_probability_it_draws(seed):
    """Over all tokens its probabilities sum to one; a document start has none."""
    random = np.random.default_rng(seed)
    text = random.integers(1, 9, 60)
    proposal = Proposal(text, 12)
    before, previous = (int(one) for one in random.integers(0, 12, 2))
    probabilities = {}
    for _ in range(400):
        token, probability = proposal.draw(before, previous, random)
        assert probabilities.setdefault(token, probability) == probability
    assert BOS not in probabilities
    assert 0.8 < sum(probabilities.values()) < 1 + 1e-9
