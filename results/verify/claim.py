"""A claim: a number as somebody wrote it, where it stands, and how far its last digit reaches."""

import re
import typing
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from results.untrusted import LARGEST, MAX_DIGITS, plain
from results.verify.words import SIZES, TIMES, Meaning

# A number in a text: thousands with commas, a sign, and the unit behind it.
NUMBER = re.compile(
    r"(?<![\w.,])(?P<sign>[-+\u2212\u2013]?)(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?P<power>[eE][-+]?\d{1,2})?\s*(?P<unit>MiB|MB|KiB|KB|kB|GB|bytes|B|ms|s|sec|min|M|K|k|%)?(?![\w%])"
)
UNITS = {"MB": 1e6, "MiB": 2.0**20, "KB": 1e3, "kB": 1e3, "KiB": 1024.0, "ms": 0.001, "min": 60.0, "M": 1e6}


@dataclass(frozen=True)
class Claim:
    place: str  # submission.json: val_bpb, README.md:12 Mean
    metric: str
    over: str  # mean, sd, largest, smallest, one
    seed: int | None  # of `one`
    says: str  # as it is written
    value: float | None  # in the metric's own unit; None where it cannot be read
    half: float = 0.0  # half a unit of the last digit that is written
    mega: bool = False  # written in MB

    def fits(self, value: float | None) -> bool:
        """Whether a value, rounded to the digits of the claim, is the claim. A tie may go either way."""
        if value is None or self.value is None:
            return False
        return abs(self.value - value) <= self.half * (1 + 1e-6) + 1e-11 * max(1.0, abs(value))


def of_number(place: str, what: Meaning, over: str, seed: int | None, number: int | Decimal) -> Claim:
    """A number of a JSON document: its digits are its precision; a whole number is exact."""
    value = float(number) * what.scale
    exponent = number.as_tuple().exponent if isinstance(number, Decimal) else 0
    half = 0.5 * 10.0**exponent if isinstance(exponent, int) and exponent > -40 else 0.0
    exact = what.metric in SIZES and isinstance(number, int) and what.scale == 1.0
    return Claim(place, what.metric, over, seed, plain(number), value, 0.0 if exact else half * what.scale)


def of_text(place: str, what: Meaning, over: str, seed: int | None, text: str) -> Claim | None:
    """The first number of a text, with its own unit where it names one; None where there is nothing written."""
    shown = plain(text.replace("*", "").replace("`", ""), 40)
    if not shown or not re.search(r"\d", shown):
        return None
    found = NUMBER.search(shown)
    if found is None and re.search(r"[A-Za-z]", shown):  # a hash, a date, a word: no number was meant
        return None
    number = None if found is None or len(found["digits"]) > MAX_DIGITS else _decimal(found)
    if found is None or number is None or abs(number) > LARGEST:
        return Claim(place, what.metric, over, seed, shown, None)
    scale = _unit(found["unit"], what)
    exponent = number.as_tuple().exponent
    half = 0.5 * 10.0**exponent if isinstance(exponent, int) else 0.0
    exact = what.metric in SIZES and exponent == 0 and scale == 1.0
    return Claim(
        place, what.metric, over, seed, shown, float(number) * scale, 0.0 if exact else half * scale, scale == 1e6
    )


def _decimal(found: typing.Any) -> Decimal | None:
    sign = "-" if found["sign"] in ("-", "\u2212", "\u2013") else ""
    try:
        return Decimal(sign + found["digits"].replace(",", "") + (found["power"] or ""))
    except InvalidOperation:
        return None


def _unit(unit: str | None, what: Meaning) -> float:
    """The scale of a written unit where it can be one of the metric's, else the label's."""
    if what.metric in SIZES and unit in ("MB", "MiB", "KB", "kB", "KiB"):
        return UNITS[unit]
    if what.metric in SIZES and unit in ("B", "bytes"):
        return 1.0
    if what.metric in TIMES and unit in ("ms", "min"):
        return UNITS[unit]
    if what.metric in TIMES and unit in ("s", "sec"):
        return 1.0
    return UNITS["M"] if what.metric == "model_params" and unit == "M" else what.scale
