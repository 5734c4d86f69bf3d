"""The claims of a submission.json, in all the spellings of the race."""

import re
import typing
from dataclasses import dataclass, field
from decimal import Decimal

from results.untrusted import plain
from results.verify.claim import Claim, of_number
from results.verify.words import BPB, LARGEST, MEAN, ONE, SD, Meaning, meaning

SEED_KEY = re.compile(r"(?:seed[_ -]?)?(\d{1,10})")
SEED_TABLES = ("seed_results", "seeds", "seed_scores", "per_seed", "results")
# Numbers of our own submission.json that are no claims by themselves: the gates and the files are derived apart.
APART = ("gates", "files", "tried", "headroom", "compliance")
MAX_SEEDS = 64  # the race has seen ten


@dataclass
class Claims:
    """What a folder claims. `seeds` is None where it names none; `other` are numbers of no known meaning."""

    claims: list[Claim] = field(default_factory=list)
    seeds: list[int] | None = None
    seeds_place: str = ""
    flags: dict[str, bool] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
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
        if key in ("seed", "n_seeds") or key in APART:
            continue
        if isinstance(value, dict) and (table := _by_seed(value)):
            _table(key, table, place, found)
        elif isinstance(value, list) and key != "seeds":
            _list(key, value, where, shown, found)
        elif isinstance(value, dict):
            found.other += [f"{plain(key, 40)}.{plain(inner, 40)}" for inner, one in value.items() if is_number(one)]
        elif shown is None:
            if is_number(value):
                found.other.append(plain(key, 40))
        elif is_number(value):
            one = re.search(r"seed[_ -]?(\d{1,10})(?!\d)", key.lower())
            over = shown.over or (ONE if one else LARGEST if shown.metric == "artifact_bytes" else MEAN)
            found.claims.append(of_number(where, shown, over, int(one[1]) if one and over == ONE else None, value))
        elif value is not None and shown.metric in (BPB, "val_loss", "artifact_bytes", "code_bytes"):
            found.wrong.append((where, plain(value, 40), f"{_kind(value)}, not a number"))
    if isinstance(flags := facts.get("compliance"), dict):
        found.flags = {str(key): value for key, value in flags.items() if isinstance(value, bool)}
    return found


def is_number(value: typing.Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def _kind(value: typing.Any) -> str:
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
        if isinstance(table, dict) and (seeds := list(_by_seed(table))):
            found.seeds, found.seeds_place = seeds, f"{place}: {key}"
            return
    if type(seed := facts.get("seed")) is int and seed >= 0:
        found.seeds, found.seeds_place = [seed], f"{place}: seed"


def _by_seed(table: dict[str, typing.Any]) -> dict[int, typing.Any]:
    """The entries of a table whose keys are seeds, but for those of a mean; empty where it is no such table."""
    found = {seed: value for key, value in table.items() if (seed := seed_of(key)) is not None}
    return found if found and len(found) >= len(table) - 2 and len(found) <= MAX_SEEDS else {}


def _table(key: str, table: dict[int, typing.Any], place: str, found: Claims) -> None:
    for seed, values in table.items():
        where = f"{place}: {plain(key, 40)}.{seed}"
        if is_number(values):
            shown = meaning(key) or Meaning(BPB, None, 1.0)
            found.claims.append(of_number(where, shown, ONE, seed, values))
        elif not isinstance(values, dict):
            if values is not None:
                found.wrong.append((where, plain(values, 40), f"{_kind(values)}, not an object or a number"))
        else:
            _entry(where, seed, values, found)


def _entry(where: str, seed: int, values: dict[str, typing.Any], found: Claims) -> None:
    for name, value in values.items():
        inner, shown = f"{where}.{plain(name, 40)}", meaning(name)
        if name == "seed":
            if value != seed:
                found.wrong.append((inner, plain(value, 40), f"the entry is that of seed {seed}"))
        elif shown is None or shown.over == SD:
            if is_number(value):
                found.other.append(inner.partition(": ")[2])
        elif is_number(value):
            found.claims.append(of_number(inner, shown, ONE, seed, value))
        elif value is not None:
            found.wrong.append((inner, plain(value, 40), f"{_kind(value)}, not a number"))


def _list(key: str, values: list[typing.Any], where: str, shown: Meaning | None, found: Claims) -> None:
    """A list with a number a seed, in the order of the seeds, or with an object a seed that names it."""
    if values and all(isinstance(one, dict) and type(one.get("seed")) is int for one in values):
        for one in values[:MAX_SEEDS]:
            _entry(f"{where}.{one['seed']}", one["seed"], one, found)
        if found.seeds is None:
            found.seeds, found.seeds_place = [one["seed"] for one in values[:MAX_SEEDS]], where
        return
    numbers = [one for one in values if is_number(one)]
    if not numbers:
        return
    if shown is None and key == "seed_scores":
        shown = Meaning(BPB, None, 1.0)
    if shown is None or found.seeds is None or len(numbers) != len(found.seeds) or len(numbers) != len(values):
        found.other.append(plain(key, 40))
        return
    for seed, number in zip(found.seeds, numbers, strict=True):
        found.claims.append(of_number(f"{where}[{seed}]", shown, ONE, seed, number))
