"""Training a tokenizer: on training documents alone, the same bytes each time, refusals that say what can be."""

import json
import re

import pytest
import sentencepiece

from golf_core.data.corpus import load_corpus
from golf_core.data.shards import DataError
from golf_core.data.tokenizer import TOKENIZER_SETTINGS, train_tokenizer
from golf_core.prepare.sources import Source
from golf_core.prepare.train_tokenizer import train_on, training_settings


def source(folder, texts) -> list[Source]:
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return [Source(path, "jsonl")]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return load_corpus().train[:60]


def test_the_same_documents_give_the_same_bytes(texts, tmp_path):
    """Twice the same model, of the size asked for; it is what the challenge's settings give for those documents."""
    sources = source(tmp_path, texts)
    found = train_on(sources, 600, val_documents=10)
    assert found == train_on(sources, 600, val_documents=10)
    assert found.model == train_tokenizer(texts[10:], 600) and found.pieces == 600 and found.documents == 50
    assert found.text_bytes == sum(len(text.encode()) for text in texts[10:])
    assert training_settings(600) | TOKENIZER_SETTINGS | {"vocab_size": 600} == training_settings(600)


def test_validation_documents_are_not_trained_on(texts, tmp_path):
    """Other validation documents change nothing, nor do their copies among the training documents."""
    found = train_on(source(tmp_path, texts), 500, val_documents=10)
    others = [text.upper() for text in texts[:10]]
    assert train_on(source(tmp_path, [*others, *texts[10:]]), 500, val_documents=10) == found
    assert train_on(source(tmp_path, [*others, *texts[10:], *others]), 500, val_documents=10) == found


def test_the_text_is_bounded_and_the_rest_not_read(texts, tmp_path):
    """Training stops at its number of bytes: what stands behind may even be bad."""
    sources = source(tmp_path, texts * 20)
    with sources[0].path.open("a", encoding="utf-8") as file:
        file.write("no JSON\n")
    found = train_on(sources, 400, val_documents=1, text_bytes=50_000)
    assert 50_000 <= found.text_bytes < 55_000 and found.documents < 30
    with pytest.raises(DataError, match=rf"a.jsonl:{len(texts) * 20 + 1} \(byte .*no JSON.*--skip-bad"):
        train_on(sources, 400, val_documents=1)
    assert train_on(sources, 400, val_documents=1, skip_bad=True).pieces == 400


def test_long_documents_and_dropped_characters_take_part(texts, tmp_path):
    """SentencePiece would leave out a document over 4,192 bytes, or one with NUL or U+2585, without a word."""
    whole = " ".join(texts)
    found = train_on(source(tmp_path, ["v", whole]), 500, val_documents=1)
    assert found.pieces == 500 and found.text_bytes > 0.99 * len(whole.encode())
    marked = train_on(source(tmp_path, ["v", *[f"\u2585{text}\0" for text in texts]]), 500, val_documents=1)
    assert marked.pieces == 500 and marked.text_bytes > 0.99 * len(whole.encode())


SAME = "the quick brown fox jumps over the lazy dog"
REFUSED = {
    "too small": ([*"ab", SAME], 100, 1, r"100 pieces are too few.*ask for \d+ at least"),
    "too large": ([*"ab", SAME], 5000, 1, r"give \d+ pieces, not 5,000: ask for \d+ at most"),
    "over 16 bits": ([*"ab", SAME], 65_537, 1, "65,537 pieces is not between 1 and 65,536"),
    "no pieces": ([SAME], 0, 1, "0 pieces is not between"),
    "all validation": ([SAME, "b"], 300, 5, "the first 2 documents are for validation.*smaller --val-documents"),
    "all shared": (["a", "a", "a"], 300, 1, "2 behind them are the same"),
    "no text": (["a", "", " "], 300, 1, "2 hold no text"),
    "no spaces": (["a", "b" * 20, "bc" * 20], 268, 1, "no piece for one|ask for"),
}


@pytest.mark.parametrize("documents, vocab, val, says", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_trained_is_refused(documents, vocab, val, says, tmp_path):
    """The message says what is possible with this text."""
    with pytest.raises(DataError, match=says):
        train_on(source(tmp_path, documents), vocab, val_documents=val)


@pytest.mark.parametrize("asked", [100, 5000], ids=["least", "most"])
def test_the_number_in_the_message_can_be_trained(asked, tmp_path):
    """Asking for the most or the fewest pieces that a refusal names gives them."""
    sources = source(tmp_path, ["a", SAME])
    with pytest.raises(DataError) as refusal:
        train_on(sources, asked, val_documents=1)
    possible = int(re.search(r"ask for (\d+)", str(refusal.value))[1])
    found = train_on(sources, possible, val_documents=1)
    assert found.pieces == possible == sentencepiece.SentencePieceProcessor(model_proto=found.model).vocab_size()


def test_a_text_without_spaces_gives_no_tokenizer(tmp_path):
    """Without a piece for a space bytes cannot be counted, so such a tokenizer is refused when it is made."""
    documents = ["v", *["abcdefgh"[: number % 8 + 1] for number in range(40)]]
    with pytest.raises(DataError) as refusal:
        train_on(source(tmp_path, documents), 5000, val_documents=1)
    possible = int(re.search(r"ask for (\d+)", str(refusal.value))[1])
    with pytest.raises(DataError, match="no piece for one"):
        train_on(source(tmp_path, documents), possible, val_documents=1)


def test_an_interruption_is_no_failure_of_sentencepiece(texts, tmp_path, monkeypatch):
    """What ends the reading of documents is raised as it is, not as what SentencePiece makes of it."""

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("golf_core.prepare.train_tokenizer.read_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_on(source(tmp_path, texts), 300, val_documents=1)
