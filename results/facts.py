"""JSON values taken with their type checked, so that a damaged or hostile file gives one clear error."""

import typing
from collections.abc import Mapping

from golf_core.rundir import RunDirError

MAX_TEXT = 10_000
MAX_INTEGER = 2**63 - 1


class Facts:
    """An object read from a file. `place` names the file in messages; a `maybe_` value may be absent or null."""

    def __init__(self, values: Mapping[str, typing.Any], place: str) -> None:
        self.values, self.place = values, place

    def _refuse(self, key: str, what: str) -> typing.NoReturn:
        shown = repr(self.values.get(key))
        raise RunDirError(f"{self.place}: {key} is {shown[:80]}{'...' if len(shown) > 80 else ''}, not {what}")

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            self._refuse(key, "a line of text")
        return value

    def integer(self, key: str) -> int:
        value = self.values.get(key)
        if type(value) is not int or not 0 <= value <= MAX_INTEGER:
            self._refuse(key, "a whole number from 0")
        return value

    def number(self, key: str) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_INTEGER:
            self._refuse(key, "a number from 0")  # NaN and infinity too are outside of the bounds
        return float(value)

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        if not isinstance(value, bool):
            self._refuse(key, "true or false")
        return value

    def child(self, key: str) -> "Facts":
        value = self.values.get(key)
        if not isinstance(value, dict):
            self._refuse(key, "an object")
        return Facts(value, f"{self.place}: {key}")

    def items(self, key: str) -> list[typing.Any]:
        value = self.values.get(key)
        if not isinstance(value, list):
            self._refuse(key, "a list")
        return value

    def maybe_text(self, key: str) -> str | None:
        return self.text(key) if self.has(key) else None

    def maybe_flag(self, key: str) -> bool | None:
        return self.flag(key) if self.has(key) else None

    def maybe_integer(self, key: str) -> int | None:
        return self.integer(key) if self.has(key) else None

    def maybe_number(self, key: str) -> float | None:
        return self.number(key) if self.has(key) else None

    def expect(self, key: str, value: typing.Any, where: str) -> None:
        """Refuse a value other than the one that `where` gives."""
        if self.values.get(key) != value or type(self.values.get(key)) is not type(value):
            self._refuse(key, f"{value!r} as in {where}")
