"""The embedded corpus: messages in chunks, split by message into training and validation documents.

A document is a chunk, or the parts of one that is too long for SentencePiece. Both splits keep the file's order.
"""

import json
import lzma
from dataclasses import dataclass
from pathlib import Path

from golf_core.data.shards import DataError

CORPUS_PATH = Path(__file__).resolve().parents[2] / "data" / "sotu_1901_2026.jsonl.xz"
VALIDATION_MESSAGES = 10  # the first ids, in order of appearance
MAX_DOCUMENT_BYTES = 4000  # under SentencePiece's 4,192, with room for normalisation


@dataclass(frozen=True)
class Corpus:
    train: list[str]
    val: list[str]


def load_corpus(path: Path = CORPUS_PATH) -> Corpus:
    """Every document of the corpus. Raises DataError where the file is missing, cut or not of this shape."""
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        chunks = [(str(row["id"]), str(row["text"])) for row in rows]
    except FileNotFoundError:
        raise DataError(f"the embedded corpus is not at {path}; run from a checkout of the project") from None
    except (OSError, EOFError, lzma.LZMAError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error!r}; `git checkout` brings it back") from None
    ids = list(dict.fromkeys(name for name, _ in chunks))
    if len(ids) <= VALIDATION_MESSAGES:
        raise DataError(f"{path} has {len(ids)} messages; more than {VALIDATION_MESSAGES} are needed for two splits")
    held_out = set(ids[:VALIDATION_MESSAGES])
    corpus = Corpus(train=[], val=[])
    for name, text in chunks:
        (corpus.val if name in held_out else corpus.train).extend(split_document(text))
    return corpus


def split_document(text: str, limit: int = MAX_DOCUMENT_BYTES) -> list[str]:
    """`text`, or its parts of at most `limit` bytes, cut between paragraphs, else words, else characters."""
    documents, rest = [], text
    while len(encoded := rest.encode()) > limit:
        head = encoded[:limit].decode(errors="ignore")
        cut = max(head.rfind("\n"), 0) or max(head.rfind(" "), 0) or len(head)
        documents.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [document for document in (*documents, rest) if document]
