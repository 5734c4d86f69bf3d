"""How fast the recount reads a validation split on one core: beside SentencePiece's own decode of the same documents.

    python benchmarks/recount.py [--tokens 6_000_000] [--rounds 3]

The documents are the embedded corpus, repeated with a number behind each, under its own tokenizer of 1,024 pieces: the
most tokens that a text has in the race. Tokens per CPU-second, the median of the rounds, in which the ways take turns:

    sentencepiece    sp.decode(ids) for each document, nothing counted
    decoded          every document's bytes, and the counts that known faults are found by
    recounted        the same, held against the raw text in a JSONL file as the tokenizer normalises it
    overlap          digests of whole documents: what each shard of training text costs

The claim: the 62,021,633 tokens of the challenge's split under 1,024 pieces are recounted in two minutes.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sentencepiece

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from golf_core.data.corpus import load_corpus  # noqa: E402
from golf_core.data.embedded import embedded_data  # noqa: E402
from golf_core.data.shard_writer import write_shard  # noqa: E402
from results.recount.count import Source, recount  # noqa: E402
from results.recount.decode import count  # noqa: E402
from results.recount.model import read_model  # noqa: E402
from results.recount.overlap import overlap  # noqa: E402
from results.recount.shards import find_split  # noqa: E402

SPLIT_TOKENS = 62_021_633
CLAIM_S = 120.0


def made(folder: Path, tokens: int, tokenizer: Path) -> list[list[int]]:
    """Shards and a file of documents; the ids of each document."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    corpus = load_corpus()
    texts = [*corpus.val, *corpus.train]
    ids: list[list[int]] = []
    got = number = 0
    with (folder / "docs.jsonl").open("w", encoding="utf-8") as file:
        while got < tokens:
            text = f"{texts[number % len(texts)]} {number}"
            ids.append(processor.encode(text))
            got, number = got + 1 + len(ids[-1]), number + 1
            file.write(json.dumps({"text": text}) + "\n")
    stream = np.concatenate([np.array([1, *one], dtype=np.uint16) for one in ids])
    write_shard(folder / "x_val_000000.bin", stream)
    write_shard(folder / "x_train_000000.bin", stream[:1000])
    return ids


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=6_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tokenizer = embedded_data()[0] / "tokenizer.model"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ids = made(folder, arguments.tokens, tokenizer)
        processor = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
        model, val = read_model(tokenizer), find_split(folder, "val")
        source = Source(folder, tokenizer, folder / "docs.jsonl")
        ways: dict[str, Callable[[], object]] = {
            "sentencepiece": lambda: [processor.decode(one) for one in ids],
            "decoded": lambda: count(val.shards, model),
            "recounted": lambda: recount(source, {"": None})[""],
            "overlap": lambda: overlap(val.shards, find_split(folder, "train").shards),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(arguments.rounds):
            for way, run in ways.items():
                began = time.process_time()
                run()
                seconds[way].append(time.process_time() - began)
        verdict = recount(source, {"": None})[""].verdict
    print(f"{val.tokens:,} tokens in {len(ids):,} documents; the recount says {verdict}")
    for way, taken in seconds.items():
        middle = statistics.median(taken)
        rate, split = val.tokens / middle / 1e6, SPLIT_TOKENS * middle / val.tokens
        print(f"{way:14} {rate:7.2f} million tokens a second, {split:6.1f} s a split")
    whole = SPLIT_TOKENS * statistics.median(seconds["recounted"]) / val.tokens
    outcome = "holds" if whole <= CLAIM_S else "does not hold"
    print(f"claim: a split in {CLAIM_S:g} s on one core: {outcome}, {whole:.1f} s")
    return 0 if verdict == "pass" and whole <= CLAIM_S else 1


if __name__ == "__main__":
    sys.exit(main())
