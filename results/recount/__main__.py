"""`python -m results.recount DATA [--tokenizer FILE] [--docs FILE] [--claims BYTES]`: a folder of shards
counted by itself, without a submission. Prints JSON; exit code 0 where nothing was found, 4 where something was."""

import argparse
import json
import sys
from pathlib import Path

from results.audit.finding import PASS
from results.recount.attempts import is_embedded, tokenizer_of
from results.recount.count import Source, recount
from results.recount.faults import deviation, explained
from results.recount.model import RecountError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m results.recount", description="count the bytes of shards again")
    parser.add_argument("data", type=Path, help="folder of *_val_*.bin, and *_train_*.bin or a manifest.json")
    parser.add_argument("--tokenizer", type=Path, help="SentencePiece .model file; default: the manifest's")
    parser.add_argument("--docs", type=Path, help="the documents' text, one JSON object a line, validation first")
    parser.add_argument("--claims", type=float, help="bytes that a score was divided by: which fault gives them")
    arguments = parser.parse_args()
    try:
        tokenizer = arguments.tokenizer or tokenizer_of(arguments.data)
        embedded = arguments.docs is None and is_embedded(arguments.data)
        source = Source(arguments.data, tokenizer, arguments.docs, embedded=embedded)
        found = recount(source, {"": None})[""]
    except RecountError as error:
        print(error, file=sys.stderr)
        return 5
    told = found.evidence | {"verdict": found.verdict}
    if arguments.claims is not None:
        claimed = arguments.claims
        told["claims"] = {
            "bytes": claimed,
            "off": deviation(claimed, found.counts.bytes),
            "explained": explained(claimed, found.counts, found.counts.tokens - 1, exact=claimed.is_integer()) or None,
        }
    print(json.dumps(told, indent=1, ensure_ascii=False))
    return 0 if found.verdict == PASS else 4


if __name__ == "__main__":
    sys.exit(main())
