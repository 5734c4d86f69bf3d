"""score_ledger.bin: small at full size, and refused when it was changed anywhere, however well that was hidden."""

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.score_ledger import full_size_stages
from golf_core.evaluate.chain import ADAPT, ADAPT_OWN, COMMIT, END, MERGE, WATCH, Event, digest
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.ledger_file import LEDGER_MAGIC, encode_ledger
from golf_core.evaluate.windows import ScoreWindow
from results.ledger_check import check_ledger, check_stage
from results.ledger_file import LedgerFileError, OtherFormat, Stage, read_ledger
from tests.golf_core.ledgers import (
    changed,
    events_read,
    facts_read,
    on_ranks,
    rechained,
    scores_of_stages,
    written,
)
from tests.golf_core.test_evaluate import CPU, TABLES, stream
from tests.golf_core.test_model import SMALL

TARGETS, PIECE = 96, 8


def learned(ledger: ScoreLedger) -> None:
    """A toy that scores pieces, learns from them after a barrier and at once, with weights that move when it does."""
    weights, additions = torch.zeros(4, 4), torch.zeros(6)
    ledger.watch([weights], [additions])
    pieces = [(low, low + PIECE) for low in range(0, TARGETS, PIECE)]
    for number, half in enumerate((pieces[:6], pieces[6:])):
        for first, stop in half[ledger.rank :: ledger.world]:
            ledger.predict([ScoreWindow(max(first - 4, 0), stop, first)])
            ledger.commit(torch.zeros(PIECE, SMALL.vocab) + first)
            ledger.adapt_own([(first, stop)])
            additions += 1
        if number == 0:
            ledger.merge()
            ledger.adapt(pieces[: 4 + ledger.rank])
            weights += 1
            ledger.watch([weights], [additions])


@pytest.fixture(scope="module")
def alone() -> tuple[bytes, dict]:
    """The ledger of one rank, and what scores.json says of it."""
    facts, records = on_ranks("ttt", stream(TARGETS), 1, learned)
    return encode_ledger([(facts, records)]), scores_of_stages([facts])


@pytest.fixture(scope="module")
def together() -> tuple[bytes, dict]:
    """The same of three ranks."""
    facts, records = on_ranks("ttt", stream(TARGETS), 3, learned)
    return encode_ledger([(facts, records)]), scores_of_stages([facts])


def test_what_was_written_is_read(alone, together):
    """The checker follows the chains of one rank and of three, and counts what happened."""
    for (data, scores), world in ((alone, 1), (together, 3)):
        (shown,) = check_ledger(read_ledger(data), scores)
        assert (shown.stage, shown.verdict, shown.ranks) == ("ttt", "SCORE_FIRST_OK", world)
        assert (shown.commits, shown.adaptations) == (12, 12 + world)
        (stage,) = read_ledger(data)
        assert written(facts_read(stage), [events_read(rank) for rank in stage.ranks]) == data


def refused(data: bytes, scores: dict) -> None:
    with pytest.raises(LedgerFileError):
        check_ledger(read_ledger(data), scores)


@settings(max_examples=60)
@given(st.data())
def test_no_event_can_be_changed(together, data):
    """One value of one event of any rank, two events exchanged, one left out, one twice, the end cut off: refused."""
    whole, scores = together
    (stage,) = read_ledger(whole)
    ranks = [events_read(rank) for rank in stage.ranks]
    rank = data.draw(st.integers(0, 2))
    events = ranks[rank]
    place = data.draw(st.integers(0, len(events) - 1))
    how = data.draw(
        st.sampled_from(["swap", "drop", "twice", "cut", "micros", "nats", "text_bytes", "weights", "runs"])
    )
    if how == "swap":
        other = data.draw(st.integers(0, len(events) - 1).filter(lambda one: one != place))
        events[place], events[other] = events[other], events[place]
    elif how == "drop":
        del events[place]
    elif how == "twice":
        events.insert(place, events[place])
    elif how == "cut":
        del events[place:]
    elif how == "runs":
        place = data.draw(st.sampled_from([n for n, event in enumerate(events) if len(event.runs)]))
        runs = events[place].runs.copy()
        runs[0, data.draw(st.integers(0, 1))] += data.draw(st.sampled_from([-1, 1]))
        ranks[rank] = changed(events, place, runs=runs)
    else:
        ranks[rank] = changed(events, place, **{how: getattr(events[place], how) + 1})
    refused(written(facts_read(stage), ranks), scores)


@given(st.sampled_from(["tokens", "nats", "bytes", "verdict", "reads", "order", "clock", "stage"]), st.booleans())
def test_no_word_of_the_head_can_be_changed(alone, key, in_scores_too):
    """What a stage says it found is bound to its events, and to scores.json."""
    whole, scores = alone
    (stage,) = read_ledger(whole)
    facts = facts_read(stage)
    other = {"verdict": "TRACK_A", "stage": "roundtrip", "order": "0" * 64, "clock": "f" * 64}
    if key == "reads":
        facts["reads"] = facts["reads"] | {"inputs": facts["reads"]["inputs"] + 1}
    else:
        facts[key] = other.get(key) or facts[key] + 1
    refused(written(facts, [events_read(stage.ranks[0])]), scores_of_stages([facts]) if in_scores_too else scores)


@settings(max_examples=150)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(alone, data):
    """Any byte of the file changed, with the file's own SHA-256 made to fit: refused, or what is read is the same."""
    whole, scores = alone
    body = bytearray(whole[:-32])
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))
    again = bytes(body) + hashlib.sha256(body).digest()
    refused(bytes(body) + whole[-32:], scores)
    try:
        check_ledger(stages := read_ledger(again), scores)
    except LedgerFileError:
        return
    assert written(facts_read(stages[0]), [events_read(stages[0].ranks[0])]) == whole


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_no_bytes_make_it_fail_otherwise(junk, length):
    """Whatever stands in a file, the answer is that it is no ledger, and why."""
    for body in (junk, LEDGER_MAGIC + junk, LEDGER_MAGIC + struct.pack("<Q", length) + junk):
        with pytest.raises(LedgerFileError):
            check_ledger(read_ledger(body + hashlib.sha256(body).digest()), {"x": {}})
    assert read_ledger(encode_ledger([])) == []


def test_an_older_or_foreign_file_is_named():
    """A ledger of format 1, and what is none, are told apart from a damaged one."""
    with pytest.raises(OtherFormat, match="format 1, whose events are not chained"):
        read_ledger(b"GOLFLDG1" + bytes(40))
    with pytest.raises(OtherFormat, match="no score ledger"):
        read_ledger(b"{}")


def forged(stage: Stage, events: list[Event]) -> Stage:
    """The stage with other events, its sums and both chains made to fit: nothing but its sense can refuse it."""
    facts = facts_read(stage)
    events = [replace(event, micros=10 * number) for number, event in enumerate(events)]
    commits = [event for event in events if event.kind == COMMIT]
    learned_from = [event for event in events if event.kind in (ADAPT, ADAPT_OWN)]
    facts["nats"] = float(sum(event.nats for event in commits))
    facts["bytes"] = sum(event.text_bytes for event in commits)
    facts["reads"] = facts["reads"] | {
        "learned": sum(int((one.runs[:, 1] - one.runs[:, 0]).sum()) for one in learned_from)
    }
    return read_ledger(written(rechained(facts, events), [events]))[0]


FORGED = {
    "nothing": (lambda e: e, None),
    "learned first": (lambda e: [e[0], e[2], e[1], *e[3:]], r"rank 0: event 1 hands out targets 0 to 7 .* not all"),
    "learned before the barrier": (
        lambda e: [*e[:13], e[14], e[13], *e[15:]],
        r"event 13 hands out targets 0 to 7 to learn from",
    ),
    "a gap": (lambda e: [*e[:3], *e[5:]], "target 8 was never scored"),
    "scored twice": (lambda e: [*e[:3], e[1], *e[3:]], "target 0 is scored twice, the second time by rank 0"),
    "weights moved alone": (
        lambda e: [replace(one, weights=one.weights + (3 < n < 14)) for n, one in enumerate(e)],
        "event 4 shows weights that moved though nothing had been handed out",
    ),
    "additions moved alone": (
        lambda e: [replace(one, additions=one.additions + (n > 1)) for n, one in enumerate(e)],
        "event 2 shows additions that moved though nothing",
    ),
    "not watched": (lambda e: e[1:], "does not begin by watching"),
    "nothing learned": (
        lambda e: [one for one in e if one.kind not in (ADAPT, ADAPT_OWN)],
        "moved though nothing|its events are TRACK_A",
    ),
    "an unknown kind": (lambda e: [*e, replace(e[-1], kind=9)], "event 30 is of no known kind"),
    "no end": (lambda e: e[:-1], "does not end with a barrier and an end"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forger_must_respect_the_order(alone, name):
    """Even with sums and chains made anew, events that break the rules are refused, with stage, rank and position."""
    change, message = FORGED[name]
    (stage,) = read_ledger(alone[0])
    events = events_read(stage.ranks[0])
    assert [event.kind for event in events[12:16]] == [ADAPT_OWN, MERGE, ADAPT, WATCH] and events[-1].kind == END
    if message is None:
        assert check_stage(forged(stage, change(events))).verdict == "SCORE_FIRST_OK"
        return
    with pytest.raises(LedgerFileError, match=message):
        check_stage(forged(stage, change(events)))


def test_a_record_made_anew_is_another(alone):
    """Who scores better by events of his own makes another chain, which is not the one that the log has told."""
    whole, scores = alone
    (stage,) = read_ledger(whole)
    events = [replace(one, nats=one.nats / 2) if one.kind == COMMIT else one for one in events_read(stage.ranks[0])]
    better = forged(stage, events)
    check_stage(better)
    (said,) = scores_of_stages([facts_read(better)]).values()
    told = said | {key: scores["ttt"][key] for key in ("ledger_order", "ledger_clock")}
    with pytest.raises(LedgerFileError, match="ledger_order"):
        check_ledger([better], {"ttt": told})


def test_the_order_is_the_same_again_and_the_clock_is_not():
    """Two evaluations that do the same have one order chain, whenever they ran."""
    first, second = (on_ranks("ttt", stream(TARGETS), 2, learned)[0] for _ in range(2))
    assert first["order"] == second["order"] and first["clock"] != second["clock"]


@pytest.mark.parametrize("shape", [(3, 4), (5,), (70_000,), (33_001, 3), ()])
def test_a_digest_sees_every_change(shape):
    """One bit of one weight, in a tensor of any size, and two tensors exchanged."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator), torch.randn(40_000, generator=generator)]
    before = int(digest(tensors))
    assert before == int(digest([t.clone() for t in tensors]))
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert digest([t.to(dtype) for t in tensors]).dtype == torch.int64
    with torch.no_grad():
        flat = tensors[0].view(-1)
        flat[-1] = torch.nextafter(flat[-1], torch.tensor(9.0))
    assert int(digest(tensors)) != before
    if tensors[0].numel() > 1 << 15:
        assert int(digest(tensors[::-1])) != int(digest(tensors))


@pytest.mark.parametrize(
    "names",
    [("sliding", "chunk"), pytest.param(("sliding", "chunk", "phased"), marks=pytest.mark.whole)],
    ids=lambda names: names[-1],
)
def test_a_full_evaluation_fits_in_five_megabytes(names):
    """62 million targets on 8 ranks: sliding with stride 64, with learning by chunks and by documents in phases, all
    together are written below 5 MB, and hold when they are read."""
    stages = full_size_stages(names)
    data = encode_ledger(stages)
    assert len(data) < 5_000_000
    shown = check_ledger(read_ledger(data), scores_of_stages([facts for facts, _ in stages]))
    assert [one.stage for one in shown] == list(names)
    assert [one.verdict for one in shown] == ["TRACK_A", "SCORE_FIRST_OK", "SCORE_FIRST_OK"][: len(names)]
    assert all(one.ranks == 8 for one in shown) and shown[1].commits >= 1893 * 8


def test_unwatched_weights_are_no_evidence():
    """A ledger of a stage that watched nothing is no evidence of what its weights did."""
    ledger = ScoreLedger("plain", stream(20), TABLES, CPU, 0, 1)
    ledger.predict([ScoreWindow(0, 20, 0)])
    ledger.commit(torch.zeros(20, SMALL.vocab))
    ledger.finish()
    (stage,) = read_ledger(encode_ledger([ledger.record()]))
    with pytest.raises(LedgerFileError, match="stage plain, rank 0: it does not begin by watching the weights"):
        check_stage(stage)
    assert np.array_equal(stage.ranks[0].kind, [COMMIT, MERGE, END])
