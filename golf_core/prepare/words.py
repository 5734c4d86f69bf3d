"""`sp.encode` word by word, with a memory of words: the same tokens at several times the speed.

Text is cut at its spaces, each word is looked up, and only a word that was not met before is given to SentencePiece.
That gives exactly the tokens of the whole text where three things hold, which are read out of the model, not assumed:

    a space cuts normalisation      no rule of its map of characters joins a space to another character, and runs of
                                    spaces become one, so that a text's normal form is its words' normal forms, joined
    a space cuts merging            BPE, and the mark of a space stands only at the start of a piece: no merge, whatever
                                    its rank, reaches over a word's start, and merges on both sides do not interact
    a space is a piece              so that unknown characters, of which a run is one token, do not run into each other

A model for which one of them does not hold is encoded in the plain way; `why_not_words` says which. A text that
contains the mark itself is encoded in the plain way too.
"""

import itertools
import string
import struct
from collections.abc import Callable, Mapping, Sequence

import sentencepiece

from golf_core.data.byte_count import SPACE_MARK
from golf_core.data.shards import DataError
from golf_core.prepare.model_proto import (
    BPE,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    ModelFacts,
    read_character_map,
    read_model,
    with_dummy_prefix,
)

REMEMBERED_WORDS = 400_000  # in each of two generations, some 250 bytes each
REMEMBERED_FIRST_WORDS = 50_000
REMEMBERED_LENGTH = 64  # characters; longer words seldom come again
SPLIT_AT_ONCE = 1 << 20  # characters whose words are held at the same time
# SentencePiece takes some 55 bytes of memory for each byte that it merges at once, so 16 MiB would take 900 MB.
MERGED_AT_ONCE = 8 * 1024 * 1024  # bytes


class HasMark(Exception):
    """The word contains the mark of a space: its text cannot be cut into words."""


def pack(tokens: Sequence[int]) -> bytes:
    """Tokens as little-endian 16-bit numbers."""
    return struct.pack(f"<{len(tokens)}H", *tokens)


class WordMemory(dict[str, bytes]):
    """The packed tokens of a word. What was not used for a generation is forgotten.

    `tails` are characters that no merge joins to a letter or digit before them, with their tokens: "word," is then
    "word" and ",", which spares the encoding of a third of all new words."""

    def __init__(self, encode: Callable[[str], list[int]], tails: Mapping[str, bytes], words: int) -> None:
        super().__init__()
        self.encode_word, self.tails, self.words = encode, tails, words
        self.older: dict[str, bytes] = {}

    def __missing__(self, word: str) -> bytes:
        found = self.older.get(word)
        if found is None:
            tail = self.tails.get(word[-1:])
            if tail and (body := word[:-1]).isalnum() and body.isascii():
                found = self[body] + tail
            else:
                if SPACE_MARK in word:
                    raise HasMark
                check_length(word)
                found = pack(self.encode_word(word))
            if len(word) > REMEMBERED_LENGTH:
                return found
        if len(self) >= self.words:
            self.older = dict(self)
            self.clear()
        self[word] = found
        return found


def check_length(text: str) -> None:
    """Raises DataError for what SentencePiece would take too much memory for."""
    if len(text) * 4 > MERGED_AT_ONCE and (size := len(text.encode())) > MERGED_AT_ONCE:
        raise DataError(
            f"{size:,} bytes of it have to be encoded as one; {MERGED_AT_ONCE:,} can be without a lot of memory: cut it"
        )


def why_not_words(facts: ModelFacts) -> str | None:
    """Why texts cannot be cut at their spaces; None where they can."""
    if facts.model_type != BPE:
        return "it is no BPE model"
    if facts.whitespace_as_suffix:
        return "it keeps spaces at the ends of words"
    if not facts.remove_extra_whitespaces or not facts.escape_whitespaces:
        return "it keeps runs of spaces"
    texts = [piece for piece, kind in facts.pieces if kind in (NORMAL, USER_DEFINED, UNUSED)]
    if SPACE_MARK not in texts:
        return f"it has no piece for a space ({SPACE_MARK})"
    for piece in texts:
        if SPACE_MARK in piece[1:] or " " in piece:
            return f"its piece {piece!r} reaches over the start of a word"
    rules = read_character_map(facts.charsmap)
    if ord(" ") in rules.joined or rules.alone.get(ord(" "), b" ") != b" ":
        return "it normalises spaces together with other characters"
    if b"  " in rules.values or SPACE_MARK.encode() in rules.values:
        return "it normalises characters to several spaces"
    return None


def separators(facts: ModelFacts) -> list[str]:
    """Other characters that are always normalised to a space, of those that texts are full of."""
    rules = read_character_map(facts.charsmap)
    pieces = "".join(piece for piece, _ in facts.pieces)
    return [
        character
        for character in "\n\t"
        if rules.alone.get(ord(character)) == b" " and ord(character) not in rules.joined and character not in pieces
    ]


def tails(facts: ModelFacts, tokenizer: sentencepiece.SentencePieceProcessor) -> dict[str, bytes]:
    """Marks of punctuation that are pieces, left as they are by normalisation, and never merged to what is before."""
    rules = read_character_map(facts.charsmap)
    plain = string.ascii_letters + string.digits
    if rules.ascii_joined or not all(rules.alone.get(ord(one), b"a").isalnum() for one in plain):
        return {}  # a letter may be normalised to something else, or to nothing
    pairs = {pair for piece, _ in facts.pieces for pair in itertools.pairwise(piece)}
    joined = {after for before, after in pairs if before.isalnum()}
    alone = {piece for piece, kind in facts.pieces if kind == NORMAL and len(piece) == 1}
    return {
        mark: pack([tokenizer.piece_to_id(mark)])
        for mark in ".,;:?!"
        if mark in alone - joined and ord(mark) not in rules.joined | rules.alone.keys()
    }


class TextEncoder:
    """The packed tokens of a text, exactly those of `sp.encode`."""

    def __init__(self, model: bytes) -> None:
        facts = read_model(model)
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.reason = why_not_words(facts)
        if self.reason is None:
            # What a word's tokens are behind a space, and those of a text's first word.
            inner = sentencepiece.SentencePieceProcessor(model_proto=with_dummy_prefix(model))
            marks = tails(facts, self.tokenizer)
            self.inner = WordMemory(inner.encode, marks, REMEMBERED_WORDS)
            self.first = WordMemory(self.tokenizer.encode, marks, REMEMBERED_FIRST_WORDS)
            self.separators = separators(facts)

    def plain(self, text: str) -> bytes:
        """By SentencePiece, at once."""
        check_length(text)
        return pack(self.tokenizer.encode(text))

    def encode(self, text: str) -> bytes:
        """By words, where the model admits it."""
        if self.reason is not None:
            return self.plain(text)
        try:
            return self._by_words(text)
        except HasMark:
            return self.plain(text)

    def _by_words(self, text: str) -> bytes:
        for separator in self.separators:
            text = text.replace(separator, " ")
        if len(text) <= SPLIT_AT_ONCE:
            return self._words(text.split(" "), begun=False)
        parts: list[bytes] = []
        start, begun = 0, False
        while start < len(text):
            end = text.find(" ", start + SPLIT_AT_ONCE)
            end = len(text) if end < 0 else end
            parts.append(self._words(text[start:end].split(" "), begun))
            begun = begun or bool(parts[-1])
            start = end + 1
        return b"".join(parts)

    def _words(self, words: list[str], begun: bool) -> bytes:
        """Tokens of words; `begun` says that the text has tokens already."""
        head, number = b"", 0
        while not begun and not head and number < len(words):
            head = self.first[words[number]]  # b"" where nothing is left of it
            words[number] = ""
            number += 1
        return head + b"".join(map(self.inner.__getitem__, words))
