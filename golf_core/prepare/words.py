"""`sp.encode` word by word, with a memory of words: the same tokens at several times the speed.

Text is cut at its spaces, each word is looked up, and only a word that was not met before is given to SentencePiece.
That gives exactly the tokens of the whole text where three things hold, which are read out of the model, not assumed:

    a space cuts normalisation      no rule of its map of characters joins a space to another character, and runs of
                                    spaces become one, so that a text's normal form is its words' normal forms, joined
    a space cuts merging            BPE, and the mark of a space stands only at the start of a piece: no merge, whatever
                                    its rank, reaches over a word's start, and merges on both sides do not interact
    a space is a piece              so that unknown characters, of which a run is one token, do not run into each other

A model for which one of them does not hold is encoded in the plain way; `TextEncoder.reason` says why, and an export
tells it. A text that contains the mark itself is encoded in the plain way too.
"""

import itertools
import string
import struct
from collections.abc import Mapping, Sequence

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
LEARNT_AT_ONCE = 500  # words: few enough that a text need not wait for many others
UNKNOWN = b"?"  # no tokens, which take two bytes each
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
    """The packed tokens of words behind a space. What was not used for a generation is forgotten.

    A new word is UNKNOWN, and `missed`, until `learn` encodes all that were: together they cost half as much.
    `tails` are characters that no merge joins to a letter or digit before them, with their tokens: "word," is then
    "word" and ",", which spares the encoding of a third of all new words."""

    def __init__(
        self, tokenizer: sentencepiece.SentencePieceProcessor, tails: Mapping[str, bytes], words: int = REMEMBERED_WORDS
    ) -> None:
        super().__init__({"": b""})
        self.tokenizer, self.tails, self.words = tokenizer, tails, words
        self.older: dict[str, bytes] = {}
        self.missed: list[str] = []

    def __missing__(self, word: str) -> bytes:
        if SPACE_MARK in word:
            raise HasMark
        if len(word) > REMEMBERED_LENGTH:
            return encode_at_once(self.tokenizer, word)
        self.missed.append(word)
        return UNKNOWN

    def learn(self) -> dict[str, bytes]:
        """The tokens of all words that were missed; they are remembered."""
        wanted, self.missed = list(dict.fromkeys(self.missed)), []
        bodies = {
            word: word[:-1] for word in wanted if word[-1] in self.tails and word[:-1].isalnum() and word.isascii()
        }
        needed = dict.fromkeys(bodies.get(word, word) for word in wanted)
        found = {word: known for word in needed if (known := self.get(word) or self.older.get(word)) is not None}
        new = [word for word in needed if word not in found]
        found.update(zip(new, map(pack, self.tokenizer.encode(new, num_threads=1) if new else ()), strict=True))
        for word, body in bodies.items():
            found[word] = found[body] + self.tails[word[-1]]
        if len(self) + len(found) > self.words:
            self.older = dict(self)
            self.clear()
            self[""] = b""
        self.update(found)
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
    if not any(piece == SPACE_MARK and kind in (NORMAL, USER_DEFINED) for piece, kind in facts.pieces):
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
            self.first: dict[str, bytes] = {}  # the tokens of words that begin a text
            self.inner = WordMemory(
                sentencepiece.SentencePieceProcessor(model_proto=with_dummy_prefix(model)),
                tails(facts, rules, self.tokenizer),
            )
            self.separators = separators(facts, rules)

    def plain(self, text: str) -> bytes:
        """By SentencePiece, at once."""
        return encode_at_once(self.tokenizer, text)

    def encode(self, text: str) -> bytes:
        """The tokens of one text. Raises DataError where it cannot be encoded."""
        (found,) = self.encode_all([text])
        if isinstance(found, DataError):
            raise found
        return found

    def encode_all(self, texts: Sequence[str]) -> list[bytes | DataError]:
        """The tokens of each text, or why there are none."""
        if self.reason is not None:
            return [self._plain_or_error(text) for text in texts]
        found: list[bytes | DataError] = []
        waiting: list[tuple[int, list[bytes], list[str]]] = []  # (text, its words' tokens, the unknown words)
        for text in texts:
            known = len(self.inner.missed)
            try:
                values = self._values(text)
            except (HasMark, DataError) as error:
                del self.inner.missed[known:]
                found.append(error if isinstance(error, DataError) else self._plain_or_error(text))
                continue
            new = self.inner.missed[known:]
            found.append(b"" if new else b"".join(values))
            if new:
                waiting.append((len(found) - 1, values, new))
            if len(self.inner.missed) >= LEARNT_AT_ONCE:
                self._finish(waiting, found)
        self._finish(waiting, found)
        return found

    def _plain_or_error(self, text: str) -> bytes | DataError:
        try:
            return self.plain(text)
        except DataError as error:
            return error

    def _finish(self, waiting: list[tuple[int, list[bytes], list[str]]], found: list[bytes | DataError]) -> None:
        learnt = self.inner.learn()
        for number, values, words in waiting:
            found[number] = _completed(values, words, learnt)
        waiting.clear()

    def _values(self, text: str) -> list[bytes]:
        """The tokens of a text's words, UNKNOWN where they are to be learnt."""
        for separator in self.separators:
            text = text.replace(separator, " ")
        if len(text) <= SPLIT_AT_ONCE:
            return self._looked_up(text.split(" "), begun=False)
        others, self.inner.missed = self.inner.missed, []
        try:
            return [self._long(text)]
        finally:
            self.inner.missed = others

    def _long(self, text: str) -> bytes:
        """The tokens of a text of which only a part's words are held at the same time."""
        parts: list[bytes] = []
        start, begun, size = 0, False, 0
        while start < len(text):
            end = text.find(" ", start + SPLIT_AT_ONCE)
            end = len(text) if end < 0 else end
            values = self._looked_up(text[start:end].split(" "), begun)
            words = self.inner.missed
            parts.append(_completed(values, words, self.inner.learn()))
            begun = begun or bool(parts[-1])
            if (size := size + len(parts[-1]) // 2) > MOST_TOKENS:
                raise DataError(f"it has more than {MOST_TOKENS:,} tokens: cut it into several")
            start = end + 1
        return b"".join(parts)

    def _looked_up(self, words: list[str], begun: bool) -> list[bytes]:
        """The tokens of each word; `begun` says that the text has tokens already."""
        head, number = b"", 0
        while not begun and not head and number < len(words):
            head = self._first_word(words[number])  # b"" where normalisation leaves nothing of it
            words[number] = ""
            number += 1
        values = list(map(self.inner.__getitem__, words))
        if number:
            values[number - 1] = head
        return values

    def _first_word(self, word: str) -> bytes:
        if (found := self.first.get(word)) is not None:
            return found
        if SPACE_MARK in word:
            raise HasMark
        found = encode_at_once(self.tokenizer, word)
        if len(word) <= REMEMBERED_LENGTH:
            if len(self.first) >= REMEMBERED_FIRST_WORDS:
                self.first.clear()
            self.first[word] = found
        return found


def _completed(values: list[bytes], words: list[str], learnt: Mapping[str, bytes]) -> bytes:
    """All tokens; the words that were UNKNOWN, in their order, by what was learnt."""
    at = 0
    for word in words:
        at = values.index(UNKNOWN, at)
        values[at] = learnt[word]
    return b"".join(values)
