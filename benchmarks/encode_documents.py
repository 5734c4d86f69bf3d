"""How fast documents become tokens on one core: ours beside SentencePiece's own `encode`, in the same run.

    python benchmarks/encode_documents.py [--corpus PATH ...] [--megabytes 12] [--vocab 1024 8192] [--rounds 3]

The corpus: the embedded one, and again with 4 % of its words changed until there are 12 MB, so that new words keep
coming; or any documents that `prepare_data --documents` takes. The tokenizers are trained on it. Bytes of UTF-8 text
per CPU-second, the median of the rounds, in which the ways take turns:

    one by one    sp.encode(text) for each document
    batched       sp.encode(texts, num_threads=1)
    ours, cold    word by word, nothing remembered, the encoder's making included
    ours, warm    the same documents again
    file, plainly json.loads and sp.encode for each line of a JSONL file
    file, ours    blocks of that file to tokens, digests and byte counts, cold; what a worker of an export does

Every token of ours is compared with `one by one`. The peak of memory is a process's of its own, which encodes the file
ten times as an export's worker does, after the words were changed each time.

The claim: at least twice the bytes per CPU-second of one by one, cold.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sentencepiece

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from golf_core.data.corpus import load_corpus  # noqa: E402
from golf_core.data.shards import DataError  # noqa: E402
from golf_core.prepare.blocks import read_blocks  # noqa: E402
from golf_core.prepare.encode import BlockEncoder, documents_of  # noqa: E402
from golf_core.prepare.sources import Source, find_sources  # noqa: E402
from golf_core.prepare.train_tokenizer import train_on  # noqa: E402
from golf_core.prepare.words import TextEncoder, pack  # noqa: E402

CHANGED = 0.04  # of the words of each repetition
MEMORY_ROUNDS = 10
CLAIM = 2.0


def varied(texts: list[str], seed: int) -> Iterator[str]:
    """The texts with some of their words changed: two letters exchanged, or a number put behind."""
    rng = random.Random(seed)
    for text in texts:
        words = text.split(" ")
        for at in range(len(words)):
            if rng.random() < CHANGED:
                word = words[at]
                where = rng.randrange(len(word)) if word else 0
                swapped = word[:where] + word[where + 1 :] + word[where : where + 1]
                words[at] = swapped if swapped != word else f"{word}{rng.randrange(10_000)}"
        yield " ".join(words)


def corpus(paths: list[Path], size: int) -> list[str]:
    """Documents of about `size` bytes: of these files, or of the embedded corpus with variation."""
    texts: list[str] = []
    got = 0

    def documents() -> Iterator[str]:
        if paths:
            for block in read_blocks(find_sources(paths)):
                yield from (text for _, text in documents_of(block) if not isinstance(text, DataError))
            return
        embedded = load_corpus()
        own = embedded.val + embedded.train
        yield from own
        for seed in range(1, 1000):
            yield from varied(own, seed)

    for text in documents():
        if got >= size:
            break
        texts.append(text)
        got += len(text.encode())
    return texts


def write_jsonl(path: Path, texts: list[str]) -> list[Source]:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return [Source(path, "jsonl")]


def measure(model: bytes, texts: list[str], sources: list[Source], rounds: int) -> dict[str, float]:
    """CPU-seconds of each way. Raises SystemExit where ours gives another token."""
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model)
    if (why := TextEncoder(model).reason) is not None:
        raise SystemExit(f"the fast way does not take this tokenizer: {why}")
    ours: list[TextEncoder] = []

    def cold() -> object:
        ours[:] = [TextEncoder(model)]
        return ours[0].encode_all(texts)

    def file_plainly() -> None:
        with sources[0].path.open(encoding="utf-8") as file:
            for line in file:
                tokenizer.encode(json.loads(line)["text"])

    def file_ours() -> None:
        encoder = BlockEncoder(model)
        for block in read_blocks(sources):
            encoder.encode(block)

    ways: dict[str, Callable[[], object]] = {
        "one by one": lambda: [tokenizer.encode(text) for text in texts],
        "batched": lambda: tokenizer.encode(texts, num_threads=1),
        "ours, cold": cold,
        "ours, warm": lambda: ours[0].encode_all(texts),
        "file, plainly": file_plainly,
        "file, ours": file_ours,
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        found = {}
        for way, run in ways.items():
            began = time.process_time()
            found[way] = run()
            took[way].append(time.process_time() - began)
        if number == 0:
            expected = [pack(tokens) for tokens in found["one by one"]]  # type: ignore[attr-defined]
            if not expected == found["ours, cold"] == found["ours, warm"]:
                raise SystemExit("the fast way gave other tokens than sp.encode: this is a fault")
        del found
    return {way: statistics.median(seconds) for way, seconds in took.items()}


def show(vocab: int, seconds: dict[str, float], size: int, peak_mb: float) -> bool:
    """Print the table of one tokenizer; whether the claim holds."""
    print(f"\n{vocab:,} pieces           MB/CPU-s   times one by one")
    for way, took in seconds.items():
        plain = seconds["file, plainly" if way.startswith("file") else "one by one"]
        print(f"  {way:<15} {size / took / 1e6:12.2f} {plain / took:12.2f}")
    print(
        f"  every token as sp.encode gives it; peak of a worker's memory over {MEMORY_ROUNDS} rounds: {peak_mb:,.0f} MB"
    )
    held = min(seconds["one by one"] / seconds["ours, cold"], seconds["file, plainly"] / seconds["file, ours"])
    print(f"  claim {CLAIM} cold: {'holds' if held >= CLAIM else 'does not hold'}")
    return held >= CLAIM


def peak_memory(model: Path, texts: Path) -> float:
    """MB of a process that encodes the file over and over with other words."""
    command = [sys.executable, __file__, "--worker", str(model), str(texts)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def worker(model: Path, texts: Path) -> None:
    """Encode with ever new words, and print the peak of this process's memory in MB."""
    encoder = BlockEncoder(model.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(MEMORY_ROUNDS):
            for block in read_blocks([Source(texts, "jsonl")]):
                rows = [text for _, text in documents_of(block) if isinstance(text, str)]
                for part in read_blocks(write_jsonl(Path(folder, "part.jsonl"), list(varied(rows, seed)))):
                    encoder.encode(part)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, nargs="+", default=[], help="JSONL, Parquet or text files, or folders")
    parser.add_argument("--megabytes", type=float, default=12)
    parser.add_argument("--vocab", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker)
        return 0
    texts = corpus(args.corpus, int(args.megabytes * 1e6))
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts):,} documents, {size:,} bytes of text, SentencePiece {sentencepiece.__version__}")
    held = True
    with tempfile.TemporaryDirectory() as folder:
        sources = write_jsonl(Path(folder, "texts.jsonl"), texts)
        for vocab in args.vocab:
            model = Path(folder, f"{vocab}.model")
            model.write_bytes(train_on(sources, vocab, val_documents=0).model)
            seconds = measure(model.read_bytes(), texts, sources, args.rounds)
            held &= show(vocab, seconds, size, peak_memory(model, sources[0].path))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
