"""The frontier: rows of a leaderboard as dated data, which claims are held against. A TOML file in frontiers/ beside
this module, or one that a user names by path. No torch here.
"""

import datetime
import functools
import math
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf_core.fields import ConfigError, nearest, require
from golf_core.significance import NotTestable, Sample, sample_of

FRONTIERS = Path(__file__).parent / "frontiers"
BEST = "best"  # the word for the accepted row of the lowest mean
MAX_TOML_BYTES = 1 << 20  # of a frontier's or a policy's file: the shipped ones have some thousand
SAME_RATIO = 0.002  # bytes per token of one text that differ by less are one tokenizer's, of four decimals
ROW_KEYS = (
    *("pr", "name", "date", "tokenizer", "bytes_per_token", "text_bytes"),
    *("scores", "values", "n", "mean", "sd", "source", "accepted", "note"),
)
FRONTIER_KEYS = ("as_of", "text", "text_bytes", "typical_sd", "bytes_per_token", "row")


@dataclass(frozen=True, kw_only=True)
class FrontierRow:
    name: str
    date: str
    tokenizer: str
    source: str  # where its figures stand
    sample: Sample  # n = 1 where nobody told how many seeds a mean is of
    bytes_per_token: float  # its own where it was scored on another text; else the tokenizer's
    text_bytes: int | None = None  # likewise; None: not told
    scores: tuple[tuple[int | None, float], ...] = ()  # (seed or None, BPB); empty where only a summary was published
    pr: int | None = None
    accepted: bool = True
    note: str = ""

    @property
    def label(self) -> str:
        """
        >>> load_frontier("2026-05-02").find("#549").label
        '#549 (2026-03-23)'
        """
        return f"{self.name if self.pr is None else f'#{self.pr}'} ({self.date})"


@dataclass(frozen=True, kw_only=True)
class Frontier:
    name: str
    as_of: str
    text: str  # which validation text the scores are of
    text_bytes: int | None = None  # its size; None: not told
    typical_sd: float  # BPB, of seeds of one configuration
    bytes_per_token: Mapping[str, float]  # of that text, by tokenizer
    rows: tuple[FrontierRow, ...]

    @property
    def best(self) -> FrontierRow:
        return min((row for row in self.rows if row.accepted), key=lambda row: row.sample.mean)

    def find(self, word: str) -> FrontierRow:
        """The row of a pull request (1493 or #1493), of a name, or the best. Raises ConfigError."""
        if word == BEST:
            return self.best
        number = word.removeprefix("#")
        for row in self.rows:
            if word == row.name or (row.pr is not None and number == str(row.pr)):
                return row
        known = [f"#{row.pr}" for row in self.rows if row.pr is not None]
        named = [row.name for row in self.rows if row.pr is None]
        raise ConfigError(f"frontier {self.name} has no row {word!r}; {nearest(word, [BEST, *known, *named])}")

    @property
    def ratios(self) -> dict[str, float]:
        """Bytes per token by tokenizer, of rows that have their own too: what a log of the race may show."""
        own = [row for row in self.rows if row.bytes_per_token != self.bytes_per_token[row.tokenizer]]
        return {**self.bytes_per_token, **{f"{row.tokenizer} of {row.name}": row.bytes_per_token for row in own}}

    def tokenizer_of(self, ratio: float) -> str | None:
        """The tokenizer that has this many bytes per token on that text."""
        apart = {name: abs(ratio / known - 1) for name, known in self.bytes_per_token.items()}
        name = min(apart, key=lambda one: apart[one])
        return name if apart[name] < SAME_RATIO else None


def frontier_names() -> list[str]:
    """The shipped ones, oldest first."""
    return sorted(path.stem for path in FRONTIERS.glob("*.toml"))


def load_frontier(name: str) -> Frontier:
    """The shipped frontier of that date, or that TOML file. Raises ConfigError, which names file, row and key."""
    path = Path(name) if name.endswith(".toml") else FRONTIERS / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"there is no frontier {name!r}; {nearest(name, frontier_names())}, or name a TOML file")
    try:
        return _parsed(toml_text(path), path)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def toml_text(path: Path) -> str:
    """A small file of a user's, bounded. Raises TOMLDecodeError where it is too large, OSError, UnicodeDecodeError."""
    with path.open("rb") as file:
        data = file.read(MAX_TOML_BYTES + 1)
    if len(data) > MAX_TOML_BYTES:
        raise tomllib.TOMLDecodeError(f"more than {MAX_TOML_BYTES:,} bytes, which no frontier and no policy needs")
    return data.decode("utf-8")


def toml_table(text: str) -> dict[str, typing.Any]:
    """Raises TOMLDecodeError, also where values are nested too deeply to be read."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("values are nested too deeply to be read") from None


@functools.lru_cache(maxsize=8)  # a look over hundreds of submissions asks for the same file
def _parsed(text: str, path: Path) -> Frontier:
    data, place = toml_table(text), str(path)
    _known(data, FRONTIER_KEYS, place)
    ratios = _value(data, "bytes_per_token", dict, place)
    tables = _value(data, "row", list, place)
    require(all(isinstance(one, dict) for one in tables) and tables != [], f"{place}: write each row as [[row]]")
    for tokenizer in ratios:
        require(_number(ratios, tokenizer, f"{place}: bytes_per_token") > 0, f"{place}: {tokenizer} must be above 0")
    size = _value(data, "text_bytes", int, place) if "text_bytes" in data else None
    rows = tuple(_row(table, index, ratios, size, place) for index, table in enumerate(tables, 1))
    for key in ("name", "pr"):
        told = [value for row in rows if (value := getattr(row, key)) is not None]
        for value in told:
            require(told.count(value) == 1, f"{place}: two rows have {key} = {value!r}")
    require(any(row.accepted for row in rows), f"{place}: no row is accepted, so none is the best")
    sd = _number(data, "typical_sd", place)
    require(sd > 0, f"{place}: typical_sd={sd} must be above 0")
    return Frontier(
        name=path.stem,
        as_of=str(_value(data, "as_of", datetime.date, place)),
        text=_value(data, "text", str, place),
        text_bytes=size,
        typical_sd=sd,
        bytes_per_token={tokenizer: float(ratio) for tokenizer, ratio in ratios.items()},
        rows=rows,
    )


def _row(
    table: Mapping[str, typing.Any], index: int, ratios: Mapping[str, typing.Any], text_bytes: int | None, file: str
) -> FrontierRow:
    place = f"{file}: row {index} ({table.get('name', 'without a name')!r:.60})"
    _known(table, ROW_KEYS, place)
    tokenizer = _value(table, "tokenizer", str, place)
    if tokenizer not in ratios:
        raise ConfigError(f"{place}: bytes_per_token has no tokenizer {tokenizer!r}; {nearest(tokenizer, ratios)}")
    forms = [key for key in ("scores", "values", "mean") if key in table]
    require(len(forms) == 1, f"{place}: give one of scores, values and mean, not {' and '.join(forms) or 'none'}")
    scores: list[tuple[int | None, float]] = []
    try:
        if forms == ["mean"]:
            sd = _number(table, "sd", place) if "sd" in table else None
            sample = Sample(n=table.get("n", 1), mean=_number(table, "mean", place), sd=sd)
            require(sd is None or sample.n > 1, f"{place}: sd={sd} of n={sample.n}; give n as well")
        else:
            extra = [key for key in ("n", "sd") if key in table]
            require(not extra, f"{place}: {' and '.join(extra)} follow from {forms[0]}; leave them out")
            scores = _scores(table, place)
            sample = sample_of(score for _, score in scores)
    except NotTestable as error:
        raise ConfigError(f"{place}: {error}") from None
    if "n" in table:
        _value(table, "n", int, place)
    return FrontierRow(
        name=_value(table, "name", str, place),
        date=str(_value(table, "date", datetime.date, place)),
        tokenizer=tokenizer,
        source=_value(table, "source", str, place),
        sample=sample,
        bytes_per_token=_ratio_of_row(table, ratios[tokenizer], place),
        text_bytes=_value(table, "text_bytes", int, place) if "text_bytes" in table else text_bytes,
        scores=tuple(scores),
        pr=_value(table, "pr", int, place) if "pr" in table else None,
        accepted=_value(table, "accepted", bool, place) if "accepted" in table else True,
        note=_value(table, "note", str, place) if "note" in table else "",
    )


def _ratio_of_row(table: Mapping[str, typing.Any], of_tokenizer: float, place: str) -> float:
    if "bytes_per_token" not in table:
        return float(of_tokenizer)
    require((own := _number(table, "bytes_per_token", place)) > 0, f"{place}: bytes_per_token must be above 0")
    return own


def _scores(table: Mapping[str, typing.Any], place: str) -> list[tuple[int | None, float]]:
    if "scores" in table:
        by_seed = _value(table, "scores", dict, place)
        for seed in by_seed:
            require(seed.isdecimal() and seed.isascii(), f"{place}: scores has the key {seed!r}, which is no seed")
        return [(int(seed), _number(by_seed, seed, f"{place}: scores")) for seed in by_seed]
    listed = dict(enumerate(_value(table, "values", list, place)))
    return [(None, _number(listed, index, f"{place}: values")) for index in listed]


def _known(table: Mapping[str, typing.Any], keys: tuple[str, ...], place: str) -> None:
    for key in table:
        if key not in keys:
            raise ConfigError(f"{place}: there is no {key}; {nearest(key, keys)}")


def _value(table: Mapping[str, typing.Any], key: str, kind: type, place: str) -> typing.Any:
    if key not in table:
        raise ConfigError(f"{place}: {key} is missing")
    if type(table[key]) is not kind or table[key] == "":
        raise ConfigError(f"{place}: {key}={table[key]!r:.60} must be {_KINDS[kind]}")
    return table[key]


def _number(table: Mapping[typing.Any, typing.Any], key: typing.Any, place: str) -> float:
    value = table.get(key)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ConfigError(f"{place}: {key}={value!r:.60} must be a finite number")
    return float(value)


_KINDS = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    list: "a list",
    datetime.date: "a date, such as 2026-05-02",
}
