"""Submissions side by side: how each is called, and which one the others are held against."""

from collections.abc import Sequence

from results.rows import Row
from results.spec import UnknownSubmission

Variant = Sequence[Row]  # the rows of a submission, a seed each


def labels_of(variants: Sequence[Variant], whole: bool = False) -> list[str]:
    """The recipe, with what was set apart from others of the same recipe, and the id where that does not suffice.

    `whole`, where no title says what is common: with all that was set.

    Within one grid, the name of the grid goes where every recipe begins with it.
    """
    said = [_changes(rows[0]) for rows in variants]
    shared = set() if whole else set(common(variants))
    names = [rows[0].recipe for rows in variants]
    grids = {f"{rows[0].grid}." for rows in variants}
    if len(grids) == 1 and all(name.startswith(grid) and name != grid for name in names for grid in grids):
        names = [name.removeprefix(grid) for name in names for grid in grids]
    longer = [
        " ".join([name, *(word for word in words if word not in shared)]) if whole or names.count(name) > 1 else name
        for name, words in zip(names, said, strict=True)
    ]
    return [
        f"{label} ({_short(rows)})" if longer.count(label) > 1 else label
        for label, rows in zip(longer, variants, strict=True)
    ]


def common(variants: Sequence[Variant]) -> list[str]:
    """What was set for all of them."""
    first, *others = [_changes(rows[0]) for rows in variants] or [[]]
    return [word for word in first if all(word in words for words in others)]


def _changes(row: Row) -> list[str]:
    return [*row.overrides.split(), *(row.script_env or "").split()]


def _short(rows: Variant) -> str:
    return rows[0].submission_id[:12]


def base_of(variants: Sequence[Variant], chosen: str | None) -> int | None:
    """The chosen one, by label, recipe or id; else the first of the grid that all are of.

    None where nobody chose and they are of several grids, of none, or without its first. Raises UnknownSubmission.
    """
    if chosen is None:
        grids = {(rows[0].grid, rows[0].grid_base) for rows in variants}
        found = [i for i, rows in enumerate(variants) if rows[0].recipe == rows[0].grid_base]
        return found[0] if len(grids) == 1 and len(found) == 1 else None
    labels = labels_of(variants)
    ids = [chosen if chosen and rows[0].submission_id.startswith(chosen) else "" for rows in variants]
    for names in (labels, [rows[0].recipe for rows in variants], ids):
        found = [i for i, name in enumerate(names) if chosen and name == chosen]
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(_short(variants[i]) for i in found)
            raise UnknownSubmission(f"--base {chosen!r} is several of them; name one by its id: {several}")
    known = ", ".join(f"{_short(rows)} ({label})" for rows, label in list(zip(variants, labels, strict=True))[:10])
    raise UnknownSubmission(f"--base {chosen!r} is none of them; there are {known}")
