"""Normalisation, done again: what a SentencePiece model makes of a text before it cuts it into pieces.

The longest key that fits at a place becomes its value; then spaces at both ends go, and runs of them become one.
"""

import re

from results.recount.model import MARK, USER, Model, RecountError


class Normalizer:
    """One model's. Most texts hold no key of several characters: they are rewritten a character at a time, in C."""

    def __init__(self, model: Model) -> None:
        self.model, self.rules = model, model.rules
        self._single = {ord(key): value for key, value in self.rules.items() if len(key) == 1}
        later = {one for key in self.rules if len(key) > 1 for one in key[1:]}
        self._later = re.compile(f"[{''.join(map(re.escape, sorted(later)))}]") if later else None
        self._longest = max(map(len, self.rules), default=1)
        self._kept = sorted((model.pieces[number].text for number in model.of_type(USER)), key=len, reverse=True)
        if any("  " in value for value in self.rules.values()) and model.remove_extra_spaces:
            raise RecountError(
                "the tokenizer's normalisation writes two spaces in a row: its text cannot be made again"
            )

    def text(self, raw: str) -> str:
        """The text that the pieces of `raw` spell, its marks written as the spaces that they are read as."""
        model = self.model
        found = self._rewritten(raw)
        if model.remove_extra_spaces:
            found = re.sub("  +", " ", found.strip(" ")).rstrip(f" {MARK}" if model.escape_spaces else " ")
        return found.replace(MARK, " ") if model.escape_spaces else found

    def _rewritten(self, raw: str) -> str:
        if self._kept:
            parts = re.split(f"({'|'.join(map(re.escape, self._kept))})", raw)
            return "".join(part if place % 2 else self._plain(part) for place, part in enumerate(parts))
        return self._plain(raw)

    def _plain(self, raw: str) -> str:
        if self._later is None or self._later.search(raw) is None:
            return raw.translate(self._single)
        return self._walked(raw)

    def _walked(self, raw: str) -> str:
        found: list[str] = []
        at, rules, longest = 0, self.rules, self._longest
        while at < len(raw):
            for length in range(min(longest, len(raw) - at), 0, -1):
                if (value := rules.get(raw[at : at + length])) is not None:
                    found.append(value)
                    at += length
                    break
            else:
                found.append(raw[at])
                at += 1
        return "".join(found)
