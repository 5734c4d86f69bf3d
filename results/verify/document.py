"""The claims of a submission.json, in all the spellings of the race."""

import re
import typing
from dataclasses import dataclass, field
from decimal import Decimal

from results.untrusted import plain
from results.verify.claim import Claim, of_number
from results.verify.words import BPB, FOREIGN, LARGEST, MEAN, ONE, SD, Meaning, meaning

SEED_KEY = re.compile(r"(?:seed[_ -]?)?(\d{1,10})")
SEED_TABLES = ("seed_results", "seeds", "seed_scores", "per_seed", "results")
# Entries beside those of the seeds that say how these are put together.
OVER_SEEDS = {"mean": MEAN, "average": MEAN, "avg": MEAN, "std": SD, "sd": SD}
MAX_SEEDS = 64  # the race has seen ten


@dataclass
class Claims:
    """What a folder claims. `seeds` is None where it names none; `other` are numbers of no known meaning."""

    claims: list[Claim] = field(default_factory=list)
    seeds: list[int] | None = None
    seeds_place: str = ""
    flags: dict[str, bool] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)  # tables, and why
    wrong: list[tuple[str, str, str]] = field(default_factory=list)  # place, what it says, why it cannot be a claim


def seed_of(key: str) -> int | None:
    """
    >>> seed_of("42"), seed_of("seed_1337"), seed_of("note")
    (42, 1337, None)
    """
    found = SEED_KEY.fullmatch(key.strip().lower())
    return int(found[1]) if found else None


def claims_of_document(facts: dict[str, typing.Any], place: str) -> Claims:
    """Every number of the document is a claim, stands in `other`, or is of a wrong type and stands in `wrong`."""
    found = Claims()
    _seeds(facts, place, found)
    for key, value in facts.items():
        where, shown = f"{place}: {plain(key, 60)}", meaning(key)
        if key == "compliance" or (key in ("seed", "n_seeds") and type(value) is int):
            continue
        if isinstance(value, dict):
            _table(key, value, where, found)
        elif isinstance(value, list):
            if key != "seeds":
                _list(key, value, where, shown, found)
        elif shown is None:
            _untaken(value, where, found)
        elif is_number(value):
            one = re.search(r"seed[_ -]?(\d{1,10})(?!\d)", key.lower())
            over = shown.over or (ONE if one else LARGEST if shown.metric == "artifact_bytes" else MEAN)
            found.claims.append(of_number(where, shown, over, int(one[1]) if one and over == ONE else None, value))
        elif value is not None and shown.metric in (BPB, "val_loss", "artifact_bytes", "code_bytes"):
            found.wrong.append((where, plain(value, 40), f"{_kind(value)}, not a number"))
    _flags(facts.get("compliance"), f"{place}: compliance", found)
    return found


def _flags(flags: typing.Any, where: str, found: Claims) -> None:
    """Each says yes, no, or that it is not known; nothing else is a flag."""
    if flags is not None and not isinstance(flags, dict):
        found.wrong.append((where, plain(flags, 40), f"{_kind(flags)}, not an object of flags"))
        return
    for key, value in (flags or {}).items():
        if isinstance(value, bool):
            found.flags[str(key)] = value
        elif value is not None:
            why = f"{_kind(value)}, not true or false"
            found.wrong.append((f"{where}.{plain(key, 40)}", plain(value, 40), why))


def _untaken(value: typing.Any, where: str, found: Claims) -> None:
    """All numbers from here on go to `other`: nothing below a key that is not understood is dropped in silence."""
    if is_number(value):
        found.other.append(where.partition(": ")[2])
    elif isinstance(value, dict):
        for key, inner in value.items():
            _untaken(inner, f"{where}.{plain(key, 40)}", found)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            _untaken(inner, f"{where}[{i}]", found)


def is_number(value: typing.Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _kind(value: typing.Any) -> str:
    if is_number(value):
        return "a number"
    return {str: "text", bool: "true or false", list: "a list", dict: "an object"}.get(type(value), "nothing known")


def _seeds(facts: dict[str, typing.Any], place: str, found: Claims) -> None:
    """The seeds that the document names, from the first of the keys that may hold them."""
    named = facts.get("seeds")
    if isinstance(named, list):
        found.seeds_place = f"{place}: seeds"
        whole = [one for one in named if type(one) is int and 0 <= one < 2**63]
        texts = [seed for one in named if isinstance(one, str) and (seed := seed_of(one)) is not None]
        if len(whole) + len(texts) != len(named) or len(named) > MAX_SEEDS:
            found.wrong.append((found.seeds_place, plain(named, 60), "not a list of whole numbers from 0"))
        elif len(set(whole + texts)) != len(named):
            found.wrong.append((found.seeds_place, plain(named, 60), "a seed stands twice"))
        found.seeds = list(dict.fromkeys(whole + texts))[:MAX_SEEDS]
        return
    if named is not None and not isinstance(named, dict):
        found.wrong.append((f"{place}: seeds", plain(named, 60), f"{_kind(named)}, not a list"))
    for key in SEED_TABLES:
        table = facts.get(key)
        if isinstance(table, dict) and (seeds := [seed for one in table if (seed := seed_of(one)) is not None]):
            found.seeds, found.seeds_place = list(dict.fromkeys(seeds))[:MAX_SEEDS], f"{place}: {key}"
            return
    if type(seed := facts.get("seed")) is int and seed >= 0:
        found.seeds, found.seeds_place = [seed], f"{place}: seed"


def _is_of_seeds(key: str, table: dict[str, typing.Any], found: Claims) -> bool:
    """Whether keys that may be seeds are: by the table's name, by a seed that is listed, or as most of its keys are."""
    told = [seed for one in table if (seed := seed_of(one)) is not None]
    return bool(told) and (key in SEED_TABLES or 2 * len(told) > len(table) or bool(set(told) & set(found.seeds or [])))


def _table(key: str, table: dict[str, typing.Any], where: str, found: Claims) -> None:
    """Each key that is a seed is one, whatever stands beside it; what is neither seed nor mean goes to `other`."""
    foreign = FOREIGN & set(re.findall(r"[a-z]+", key.lower()))
    if foreign or (not _is_of_seeds(key, table, found) and key not in SEED_TABLES):
        _untaken(table, where, found)
        return
    for count, (name, values) in enumerate(table.items()):
        inner, seed = f"{where}.{plain(name, 40)}", seed_of(name)
        over = ONE if seed is not None else OVER_SEEDS.get(name.strip().lower())
        if over is None or count >= 2 * MAX_SEEDS:
            _untaken(values, inner, found)
        elif is_number(values):
            shown = meaning(key) or Meaning(BPB, None, 1.0)
            found.claims.append(of_number(inner, shown, over, seed, values))
        elif isinstance(values, dict):
            _entry(inner, seed, over, values, found)
        elif values is not None:
            found.wrong.append((inner, plain(values, 40), f"{_kind(values)}, not an object or a number"))
            _untaken(values, inner, found)


def _entry(where: str, seed: int | None, over: str, values: dict[str, typing.Any], found: Claims) -> None:
    """What is told of one seed, or of all together."""
    for name, value in values.items():
        inner, shown = f"{where}.{plain(name, 40)}", meaning(name)
        if name == "seed" and seed is not None:
            if value != seed:
                found.wrong.append((inner, plain(value, 40), f"the entry is that of seed {seed}"))
        elif shown is not None and is_number(value) and shown.over in (None, over):
            found.claims.append(of_number(inner, shown, over, seed, value))
        elif shown is None or shown.over == SD or isinstance(value, (dict, list)) or is_number(value):
            _untaken(value, inner, found)
        elif value is not None:
            found.wrong.append((inner, plain(value, 40), f"{_kind(value)}, not a number"))


def _list(key: str, values: list[typing.Any], where: str, shown: Meaning | None, found: Claims) -> None:
    """A list with a number a seed, in the order of the seeds, or with objects that name their seeds."""
    told = [one for one in values if isinstance(one, dict) and type(one.get("seed")) is int]
    if told:
        for i, one in enumerate(values):
            if isinstance(one, dict) and type(one.get("seed")) is int and i < 2 * MAX_SEEDS:
                _entry(f"{where}.{one['seed']}", one["seed"], ONE, one, found)
            else:
                _untaken(one, f"{where}[{i}]", found)
        if found.seeds is None:
            found.seeds, found.seeds_place = list(dict.fromkeys(one["seed"] for one in told))[:MAX_SEEDS], where
        return
    numbers = [one for one in values if is_number(one)]
    if shown is None and key == "seed_scores":
        shown = Meaning(BPB, None, 1.0)
    if shown is None or found.seeds is None or len(numbers) != len(found.seeds) or len(numbers) != len(values):
        _untaken(values, where, found)
        return
    for seed, number in zip(found.seeds, numbers, strict=True):
        found.claims.append(of_number(f"{where}[{seed}]", shown, ONE, seed, number))
