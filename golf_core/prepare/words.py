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
from functools import partial

import sentencepiece

from golf_core.data.byte_count import SPACE_MARK
from golf_core.data.shards import DataError
from golf_core.prepare.model_proto import (
    BPE,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    CharacterMap,
    ModelFacts,
    read_character_map,
    read_model,
    with_dummy_prefix,
)

REMEMBERED_WORDS = 400_000  # in each of two generations, some 250 bytes each
REMEMBERED_FIRST_WORDS = 50_000
REMEMBERED_LENGTH = 64  # characters; longer words seldom come again
SPLIT_AT_ONCE = 1 << 20  # characters whose words are held at the same time
# SentencePiece takes some 55 bytes of memory for each byte that it merges at once: 220 MB, beside a block, its tokens
# and the memory of words. Documents of 16 MiB at once would take 900 MB.
MERGED_AT_ONCE = 4 * 1024 * 1024  # bytes of normalised text
LONGEST_VALUE = 33  # bytes that one character can become by normalisation
CHECKED_AT_ONCE = 1 << 16  # characters
MOST_TOKENS = 32 * 1024 * 1024  # of one document; two a byte of the largest


class HasMark(Exception):
    """The word contains the mark of a space: its text cannot be cut into words."""


def pack(tokens: Sequence[int]) -> bytes:
    """Tokens as little-endian 16-bit numbers."""
    return struct.pack(f"<{len(tokens)}H", *tokens)


class WordMemory(dict[str, bytes]):
    """The packed tokens of a word. What was not used for a generation is forgotten.

    `tails` are characters that no merge joins to a letter or digit before them, with their tokens: "word," is then
    "word" and ",", which spares the encoding of a third of all new words."""

    def __init__(self, encode: Callable[[str], bytes], tails: Mapping[str, bytes], words: int) -> None:
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
                found = self.encode_word(word)
            if len(word) > REMEMBERED_LENGTH:
                return found
        if len(self) >= self.words:
            self.older = dict(self)
            self.clear()
        self[word] = found
        return found


def encode_at_once(tokenizer: sentencepiece.SentencePieceProcessor, text: str) -> bytes:
    """The packed tokens from SentencePiece. Raises DataError for what it would take too much memory for."""
    if len(text) * LONGEST_VALUE > MERGED_AT_ONCE:
        parts = (text[start : start + CHECKED_AT_ONCE] for start in range(0, len(text), CHECKED_AT_ONCE))
        if (size := sum(len(tokenizer.normalize(part).encode()) for part in parts)) > MERGED_AT_ONCE:
            raise DataError(
                f"{size:,} bytes of it have to be encoded as one; {MERGED_AT_ONCE:,} can be without a lot of memory: "
                "cut it"
            )
    return pack(tokenizer.encode(text))


def why_not_words(facts: ModelFacts, rules: CharacterMap) -> str | None:
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
    if ord(" ") in rules.joined or rules.alone.get(ord(" "), b" ") != b" ":
        return "it normalises spaces together with other characters"
    if b"  " in rules.values or SPACE_MARK.encode() in rules.values:
        return "it normalises characters to several spaces"
    return None


def separators(facts: ModelFacts, rules: CharacterMap) -> list[str]:
    """Other characters that are always normalised to a space, of those that texts are full of."""
    pieces = "".join(piece for piece, _ in facts.pieces)
    return [
        character
        for character in "\n\t"
        if rules.alone.get(ord(character)) == b" " and ord(character) not in rules.joined and character not in pieces
    ]


def tails(facts: ModelFacts, rules: CharacterMap, tokenizer: sentencepiece.SentencePieceProcessor) -> dict[str, bytes]:
    """Marks of punctuation that are pieces, left as they are by normalisation, and never merged to what is before."""
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
        rules = read_character_map(facts.charsmap)
        self.tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.reason = why_not_words(facts, rules)
        if self.reason is None:
            # What a word's tokens are behind a space, and those of a text's first word.
            inner = sentencepiece.SentencePieceProcessor(model_proto=with_dummy_prefix(model))
            marks = tails(facts, rules, self.tokenizer)
            self.inner = WordMemory(partial(encode_at_once, inner), marks, REMEMBERED_WORDS)
            self.first = WordMemory(partial(encode_at_once, self.tokenizer), marks, REMEMBERED_FIRST_WORDS)
            self.separators = separators(facts, rules)

    def plain(self, text: str) -> bytes:
        """By SentencePiece, at once."""
        return encode_at_once(self.tokenizer, text)

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
        start, begun, size = 0, False, 0
        while start < len(text):
            end = text.find(" ", start + SPLIT_AT_ONCE)
            end = len(text) if end < 0 else end
            parts.append(self._words(text[start:end].split(" "), begun))
            begun = begun or bool(parts[-1])
            if (size := size + len(parts[-1]) // 2) > MOST_TOKENS:
                raise DataError(f"it has more than {MOST_TOKENS:,} tokens: cut it into several")
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
