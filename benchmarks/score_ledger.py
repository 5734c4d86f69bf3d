"""What the score ledger costs: time beside a bare cross-entropy, bytes at full size, a digest beside a SHA-256.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/score_ledger.py

Times are CPU-seconds of this process. The two evaluations take turns on the same windows of the same model in one
run; of each the quickest round counts, since neighbours on a machine make others slower. As these differ by more than
the ledger costs, it is also measured alone: both again with a model that answers at once, and their difference over the
bare evaluation with the real one. The records at full size are made of events as 8 ranks would have them.
"""

import argparse
import hashlib
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from golf_core.config import TTTConfig
from golf_core.data.byte_count import target_bytes
from golf_core.evaluate.chain import ADAPT, ADAPT_OWN, COMMIT, END, MERGE, WATCH, Chain, Event, digest
from golf_core.evaluate.ledger import ScoreLedger, facts_of
from golf_core.evaluate.ledger_file import encode_events, encode_ledger
from golf_core.evaluate.phased_ttt import document_queue, learning_pieces, phase_ends
from golf_core.evaluate.sliding import evaluate_windows, same_length_batches
from golf_core.evaluate.windows import score_windows
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.recipes import load_recipe
from results.ledger_check import check_ledger
from results.ledger_file import read_ledger

TARGETS, RANKS, STRIDE, SEQ_LEN, BATCH = 62_021_845, 8, 64, 2048, 64
Span = tuple[int, int]
Stage = tuple[dict[str, Any], list[bytes]]


class Record:
    """The events of one rank, with times, losses and digests as random as those of a run."""

    def __init__(self, rank: int) -> None:
        self.random = np.random.default_rng(rank)
        self.events: list[Event] = []
        self.clock, self.weights, self.additions, self.inputs, self.learned = 0, self.drawn(), 0, 0, 0
        self.add(WATCH)

    def drawn(self) -> int:
        return int(self.random.integers(1, 2**63))

    def add(self, kind: int, runs: list[Span] | None = None) -> None:
        self.clock += int(self.random.integers(2_000, 90_000))
        table = np.array(runs or [], dtype=np.int64).reshape(-1, 2)
        scored = int((table[:, 1] - table[:, 0]).sum()) if kind == COMMIT else 0
        nats = float(self.random.normal(2.3, 0.01)) * scored
        self.events.append(Event(kind, table, self.clock, nats, int(2.44 * scored), self.weights, self.additions))
        if kind in (ADAPT, ADAPT_OWN):
            self.learned += int((table[:, 1] - table[:, 0]).sum())


def sliding_record(rank: Record, first: int, stop: int) -> None:
    """A share of the stream in batches of BATCH windows: each one run of targets."""
    for low in range(first, stop, BATCH * STRIDE):
        rank.add(COMMIT, [(low, min(low + BATCH * STRIDE, stop))])


def sliding_events() -> list[Record]:
    ranks = [Record(number) for number in range(RANKS)]
    for number, rank in enumerate(ranks):
        sliding_record(rank, TARGETS * number // RANKS, TARGETS * (number + 1) // RANKS)
    return ranks


def chunk_events(config: TTTConfig) -> list[Record]:
    """Chunk after chunk: scored by all ranks, a barrier, three epochs of it."""
    ranks = [Record(number) for number in range(RANKS)]
    weights = np.random.default_rng(9)
    for low in range(0, TARGETS, config.chunk_tokens):
        high = min(low + config.chunk_tokens, TARGETS)
        sequences = [(first, min(first + SEQ_LEN, high)) for first in range(low, high, SEQ_LEN)]
        for number, rank in enumerate(ranks):
            share = low + (high - low) * number // RANKS, low + (high - low) * (number + 1) // RANKS
            sliding_record(rank, *share)
            rank.add(MERGE)
        for _ in range(config.epochs if high < TARGETS else 0):
            for number, rank in enumerate(ranks):
                if mine := sequences[number::RANKS]:
                    rank.add(ADAPT, mine)
            after = int(weights.integers(1, 2**63))  # the same on all ranks
            for rank in ranks:
                rank.weights = after
    return ranks


def document_lengths() -> list[int]:
    """50,000 documents, some of them long, as the validation text has them."""
    lengths = np.random.default_rng(0).lognormal(6.6, 0.95, 50_000)
    cuts = np.round(np.cumsum(lengths) / lengths.sum() * TARGETS).astype(int)
    return np.diff(cuts, prepend=0).tolist()


def phased_events(config: TTTConfig) -> list[Record]:
    """Batches of documents, piece after piece, each learned from at once; three passes of all ranks in between."""
    ranks = [Record(number) for number in range(RANKS)]
    stops = np.cumsum(document_lengths()).tolist()
    documents = [(stop - length, stop) for stop, length in zip(stops, document_lengths(), strict=True) if length]
    queue, begun, size = document_queue(documents, config.lora_documents), 0, config.lora_chunk_tokens
    flat = [one for batch in queue for one in reversed(batch)]
    for end in [*phase_ends(config, len(flat)), len(flat)]:
        upto = -(-end // config.lora_documents)
        for number, rank in enumerate(ranks):
            for batch in queue[begun:upto][number::RANKS]:
                score_batch_of_documents(rank, batch, size)
        begun = upto
        if begun < len(queue):
            for rank in ranks:
                rank.add(MERGE)
                rank.additions = 0
                rank.add(WATCH)
            for piece in learning_pieces(flat[:end], config.chunk_tokens, SEQ_LEN)[:-1]:
                for number, rank in enumerate(ranks):
                    if mine := piece[number::RANKS]:
                        rank.add(ADAPT, mine)
                for rank in ranks:
                    rank.weights += 1
    return ranks


def score_batch_of_documents(rank: Record, batch: list[Span], size: int) -> None:
    rank.additions = rank.drawn()
    rank.add(WATCH)
    done = 0
    while going := [(first + done, min(first + done + size, stop)) for first, stop in batch if stop - first > done]:
        rank.add(COMMIT, going)
        done += size
        if more := [(first, stop) for first, stop in going if stop - first == size]:
            rank.add(ADAPT_OWN, more)
            rank.additions = rank.drawn()


def stage_of(name: str, ranks: list[Record], verdict: str) -> Stage:
    """A stage of such records, with chains that hold."""
    chains = [Chain(name, TARGETS, number, RANKS, torch.device("cpu")) for number in range(RANKS)]
    for rank in ranks:
        rank.add(MERGE)
        rank.add(END)
    walks = [walk(chain, rank.events) for chain, rank in zip(chains, ranks, strict=True)]
    while all([next(one, False) for one in walks]):
        ends = [chain.order + chain.clock for chain in chains]
        for chain in chains:
            chain.join(ends)
    events = [event for rank in ranks for event in rank.events]
    reads = {"inputs": TARGETS, "targets": TARGETS, "learned": sum(rank.learned for rank in ranks), "unscored": 0}
    found = {"nats": sum(event.nats for event in events), "bytes": sum(event.text_bytes for event in events)}
    facts = facts_of(name, TARGETS, RANKS, found["nats"], found["bytes"], verdict, reads, [c.ends() for c in chains])
    told = [encode_events(rank.events, COMMIT) for rank in ranks]
    sizes = [
        {"events": len(rank.events), "runs": runs, "size": len(record)}
        for rank, (record, runs) in zip(ranks, told, strict=True)
    ]
    return facts | {"ranks": sizes}, [record for record, _ in told]


def walk(chain: Chain, events: list[Event]) -> Iterator[bool]:
    """Bind the events; stops at each barrier until all ranks' ends were taken in."""
    for number, event in enumerate(events):
        chain.bind_event(number, event)
        if event.kind == MERGE:
            yield True


def full_size_stages(names: tuple[str, ...] = ("sliding", "chunk", "phased")) -> list[Stage]:
    chunk, phased = TTTConfig(kind="chunk"), TTTConfig(kind="phased", lora_chunk_tokens=48)
    made = {
        "sliding": (sliding_events, "TRACK_A"),
        "chunk": (lambda: chunk_events(chunk), "SCORE_FIRST_OK"),
        "phased": (lambda: phased_events(phased), "SCORE_FIRST_OK"),
    }
    return [stage_of(name, made[name][0](), made[name][1]) for name in names]


def scores_of(stages: list[Stage]) -> dict[str, dict[str, Any]]:
    """What scores.json would say."""
    found = {}
    for facts, _ in stages:
        told = {key: facts[key] for key in ("tokens", "bytes", "verdict")}
        ends = {"ledger_order": facts["order"], "ledger_clock": facts["clock"]}
        found[facts["stage"]] = told | ends | {"val_loss": facts["nats"] / facts["tokens"]}
    return found


def print_full_size() -> None:
    stages = full_size_stages()
    data = encode_ledger(stages)
    for facts, records in stages:
        events, runs = (sum(rank[key] for rank in facts["ranks"]) for key in ("events", "runs"))
        size = sum(map(len, records))
        print(f"{facts['stage']:<8} {TARGETS:,} targets, {RANKS} ranks: {events:,} events, {runs:,} runs, {size:,} B")
    begin = time.process_time()
    check_ledger(read_ledger(data), scores_of(stages))
    print(f"all three in one file: {len(data):,} B; read and checked in {time.process_time() - begin:.1f} CPU-s")


def print_digest() -> None:
    model = GPT(load_recipe("naive_baseline").config.model, load_parts(load_recipe("naive_baseline").config))
    weights = [p.detach() for p in model.parameters()]
    count = sum(w.numel() for w in weights)

    def took(work: Any) -> float:
        work()
        begin = time.process_time()
        for _ in range(5):
            work()
        return (time.process_time() - begin) / 5

    def sha256() -> str:
        found = hashlib.sha256()
        for w in weights:
            found.update(w.numpy().tobytes())
        return found.hexdigest()

    quick, slow = took(lambda: int(digest(weights))), took(sha256)
    print(f"a digest of {count:,} weights: {1000 * quick:.1f} ms, their SHA-256: {1000 * slow:.1f} ms")


class Instant:
    """A model with another's weights that answers at once, and the same to everything."""

    def __init__(self, model: GPT) -> None:
        self.vocab, self.parameters = model.config.vocab, model.parameters

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        return ids.new_zeros(()).float().expand(*ids.shape, self.vocab)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden


def print_overhead(recipe: str, targets: int, batch: int, rounds: int) -> None:
    """The same sliding windows through the ledger and through a bare cross-entropy, in turns."""
    config = load_recipe(recipe).config
    vocab, seq_len, stride = config.model.vocab, config.evaluate.seq_len, 64
    model = GPT(config.model, load_parts(config), torch.float32, seq_len)
    model.init_weights(torch.Generator().manual_seed(0))
    tokens = np.random.default_rng(0).integers(2, vocab, targets + 1).astype(np.uint16)
    tables = np.full(vocab, 3, dtype=np.int16), np.arange(vocab) % 2 == 1, np.zeros(vocab, dtype=np.bool_)

    def ledger(model: Any = model) -> float:
        made = ScoreLedger("sliding", tokens, tables, torch.device("cpu"), 0, 1)
        evaluate_windows(model, made, seq_len=seq_len, stride=stride, batch_seqs=batch, progress=lambda *_: None)
        score = made.finish()
        made.record()
        return score.val_bpb

    def bare(model: Any = model) -> float:
        nats = torch.zeros((), dtype=torch.float64)
        for windows in same_length_batches(score_windows(targets, seq_len, stride), batch):
            rows = np.stack([tokens[w.start : w.stop + 1] for w in windows]).astype(np.int64)
            scored = windows[0].stop - windows[0].first
            with torch.inference_mode():
                ids = torch.from_numpy(rows)
                logits = model.logits(model.hidden(ids[:, :-1])[:, -scored:]).flatten(0, 1)
                target = ids[:, -scored:].flatten()
                nats += F.cross_entropy(logits, target, reduction="none").double().sum()
        return float(nats) / np.log(2) / int(target_bytes(tokens[:-1], tokens[1:], tables).sum())

    found, seconds = {"bare": bare(), "ledger": ledger()}, {"bare": list[float](), "ledger": list[float]()}
    for turn in range(2 * rounds):
        name, work = (("bare", bare), ("ledger", ledger))[turn % 2 ^ turn // 2 % 2]
        begin = time.process_time()
        work()
        seconds[name].append(time.process_time() - begin)
    least = {name: min(times) for name, times in seconds.items()}
    alone = {name: math.inf for name in seconds}
    for _ in range(8):
        for name, work in (("bare", bare), ("ledger", ledger)):
            begin = time.process_time()
            work(Instant(model))
            alone[name] = min(alone[name], time.process_time() - begin)
    own = alone["ledger"] - alone["bare"]
    ratios = sorted(one / other for one, other in zip(seconds["ledger"], seconds["bare"], strict=True))
    print(
        f"{recipe}: {targets:,} targets, windows of {seq_len}, stride {stride}, {rounds} rounds: bare "
        f"{least['bare']:.3f} CPU-s, ledger {least['ledger']:.3f} CPU-s at the least, ratio "
        f"{least['ledger'] / least['bare']:.4f}; median of {rounds} ratios {ratios[rounds // 2]:.4f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}); alone {1000 * own:.1f} ms, {100 * own / least['bare']:.2f} %; "
        f"BPB differs by {abs(found['ledger'] - found['bare']):.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="of either evaluation")
    rounds = parser.parse_args().rounds
    print_overhead("demo", 16_384, 32, 2 * rounds)
    print_overhead("naive_baseline", 2_048, 4, max(rounds // 2, 1))
    print_digest()
    print_full_size()


if __name__ == "__main__":
    main()
