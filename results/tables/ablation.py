"""The ablation table: variants x seeds, each held against one base row; lost variants are shown like won ones."""

import typing
from collections.abc import Sequence

from golf_core.significance import NotTestable, Welch, sample_of, welch
from results.dataset import data_warning, same_text, text_of
from results.stats import mean, sample_sd
from results.tables.figures import NOTHING, megabytes, milliseconds, short_bits, short_delta, signed, whole
from results.tables.render import Column, Record, Table
from results.tables.seeds import DIAGNOSTIC, SIMULATED
from results.tables.variants import Variant, common, labels_of

LEGEND = (
    "Differences are variant - base: negative BPB, nats and bytes are better. The interval is Welch's two-sided 95 % t "
    "interval of the difference of the mean BPB; nats are per token, by the base's own val_loss / val_bpb. Steps won: "
    "what the base's training time gives at the variant's step_avg, less the base's steps; negative is lost. "
    "Artifact is the largest seed's."
)
MACHINE = ("device", "gpu", "gpus", "processes", "threads", "dtype")  # steps of other machines do not compare


def _interval(record: Record) -> str:
    low, high = record["delta_bpb_low"], record["delta_bpb_high"]
    if low is None or high is None:
        return str(record["no_interval"] or NOTHING)
    return f"{short_delta(low)} to {short_delta(high)}"


def _label(record: Record) -> str:
    return f"{record['variant']} (base)" if record["is_base"] else str(record["variant"])


def _score(record: Record) -> str:
    if (value := record["val_bpb"]) is None:
        return "diagnostic" if record["diagnostic_only"] else NOTHING
    return short_bits(value)


OWN = (
    Column(
        name="variant",
        kind=str,
        meaning="what sets it apart from the others of the table",
        header="Variant",
        show=_label,
    ),
    Column(name="is_base", kind=bool, meaning="True: the row that the others are held against"),
    Column(name="grid", kind=str, meaning="name of the grid, where it was submitted as a variant of one"),
    Column(name="recipe", kind=str, meaning="name of the recipe"),
    Column(name="overrides", kind=str, meaning="what --set changed"),
    Column(name="submission_id", kind=str, meaning="hash of the ordered run ids"),
    Column(
        name="seeds",
        kind=str,
        meaning="counted of registered",
        header="Seeds",
    ),
    Column(name="n", kind=int, meaning="counted seeds: what every mean is over"),
    Column(name="registered", kind=int, meaning="registered seeds"),
    Column(name="diagnostic_only", kind=bool, meaning="True: none of its scores is a score"),
    Column(name="target_class", kind=str, meaning="simulated: no time is a measurement"),
    Column(name="final_stage", kind=str, meaning="the stage that is claimed"),
    Column(name="val_bpb", kind=float, unit="bits/byte", meaning="mean of the final stage", header="BPB", show=_score),
    Column(
        name="val_bpb_sd",
        kind=float,
        unit="bits/byte",
        meaning="sample standard deviation (n - 1)",
        header="sd",
        write=short_bits,
    ),
)
AGAINST_SCORE = (
    Column(
        name="delta_bpb",
        kind=float,
        unit="bits/byte",
        meaning="mean BPB less the base's: negative is better",
        header="Δ BPB",
        write=short_delta,
    ),
    Column(
        name="delta_bpb_low",
        kind=float,
        unit="bits/byte",
        meaning="lower end of the 95 % interval of delta_bpb",
        header="95 % interval",
        show=_interval,
    ),
    Column(name="delta_bpb_high", kind=float, unit="bits/byte", meaning="upper end"),
    Column(name="no_interval", kind=str, meaning="why there is no interval"),
    Column(
        name="delta_nats",
        kind=float,
        unit="nats/token",
        meaning="delta_bpb by the base's val_loss / val_bpb",
        header="Δ nats",
        write=short_delta,
    ),
    Column(name="delta_nats_low", kind=float, unit="nats/token", meaning="lower end of its 95 % interval"),
    Column(name="delta_nats_high", kind=float, unit="nats/token", meaning="upper end"),
)
TIMES = (
    Column(
        name="step_avg_ms",
        kind=float,
        unit="ms",
        meaning="mean training time over steps",
        header="step_avg",
        write=milliseconds,
    ),
    Column(name="steps", kind=float, count=True, meaning="mean optimizer steps", header="Steps", write=whole),
)
AGAINST_TIME = (
    Column(name="delta_steps", kind=float, count=True, meaning="steps less the base's"),
    Column(
        name="steps_won",
        kind=float,
        meaning="steps in the base's training time at this step_avg, less the base's: negative is lost",
        header="Steps won",
        write=signed,
    ),
)
SIZE = (
    Column(
        name="artifact_bytes",
        kind=float,
        count=True,
        unit="B",
        meaning="code and model of the largest seed",
        header="Artifact",
        write=megabytes,
    ),
)
AGAINST_SIZE = (
    Column(
        name="delta_bytes",
        kind=float,
        count=True,
        unit="B",
        meaning="artifact_bytes less the base's",
        header="Δ bytes",
        write=signed,
    ),
)
NOTE = (Column(name="note", kind=str, meaning="what a reader must know of the row"),)
ALONE = (*OWN, *TIMES, *SIZE, *NOTE)
COMPARED = (*OWN, *AGAINST_SCORE, *TIMES, *AGAINST_TIME, *SIZE, *AGAINST_SIZE, *NOTE)


def ablation_table(variants: Sequence[Variant], base: int) -> Table:
    """The base first, then places in the grid, then the given order."""
    labels = labels_of(variants)
    order = sorted(range(len(variants)), key=lambda i: (i != base, variants[i][0].grid_position or len(variants), i))
    records = [_compared(variants[i], labels[i], variants[base], i == base) for i in order]
    grids = {rows[0].grid for rows in variants}
    of = f" of grid {variants[base][0].grid}" if len(grids) == 1 and None not in grids else ""
    shared = [] if grids != {None} else [word for word in common(variants) if word not in labels[base].split()]
    all_with = f", all with {' '.join(shared)}" if shared else ""
    return _table("ablation", f"Ablation{of} against {labels[base]}{all_with}", COMPARED, variants, records, [LEGEND])


def submissions_table(variants: Sequence[Variant], title: str, notes: Sequence[str] = ()) -> Table:
    """The same rows held against nothing: grids together, in their order, the rest by name."""
    records = [_own(rows, label) for rows, label in zip(variants, labels_of(variants, whole=True), strict=True)]
    places = {rows[0].submission_id: rows[0].grid_position or 0 for rows in variants}
    records.sort(
        key=lambda one: (one["grid"] or "", places[one["submission_id"]], one["variant"], one["submission_id"])
    )
    return _table("submissions", title, ALONE, variants, records, notes)


def _table(
    name: str,
    title: str,
    columns: Sequence[Column],
    variants: Sequence[Variant],
    records: Sequence[Record],
    notes: Sequence[str],
) -> Table:
    rows = [row for variant in variants for row in variant]
    diagnostic, simulated = (
        any(row.diagnostic_only for row in rows),
        any(row.target_class == "simulated" for row in rows),
    )
    warning = "; ".join(
        filter(None, ["DIAGNOSTIC ONLY" * diagnostic, "SIMULATED HARDWARE" * simulated, data_warning(rows)])
    )
    stamps = [DIAGNOSTIC] * diagnostic + [SIMULATED] * simulated
    told = [f"{record['variant']}: {record['note']}" for record in records if record["note"]]
    return Table(
        name=name,
        title=f"{title} ({warning})" if warning else title,
        columns=columns,
        records=records,
        notes=[*stamps, *notes, *told],
    )


def _own(rows: Variant, label: str) -> dict[str, typing.Any]:
    first, counted = rows[0], [row for row in rows if row.counted]
    scores = [row.val_bpb for row in counted if row.val_bpb is not None]
    stages = sorted({row.final_stage for row in counted if row.final_stage})
    return {
        "variant": label,
        "is_base": False,
        "grid": first.grid,
        "recipe": first.recipe,
        "overrides": first.overrides,
        "submission_id": first.submission_id,
        "seeds": f"{len(counted)}/{len(rows)}",
        "n": len(counted),
        "registered": len(rows),
        "diagnostic_only": any(row.diagnostic_only for row in rows),
        "target_class": first.target_class,
        "final_stage": "/".join(stages) or None,
        "val_bpb": mean(scores) if scores else None,
        "val_bpb_sd": sample_sd(scores),
        "step_avg_ms": _mean([row.step_avg_ms for row in counted]),
        "steps": _mean([row.steps for row in counted]),
        "artifact_bytes": max((row.artifact_bytes for row in counted if row.artifact_bytes is not None), default=None),
        "note": "; ".join(f"seed {row.seed} is {row.status}" for row in rows if not row.counted) or None,
    }


def _compared(rows: Variant, label: str, base: Variant, is_base: bool) -> dict[str, typing.Any]:
    own, other = _own(rows, label), _own(base, "")
    if is_base:
        return own | {"is_base": True, "no_interval": None} | dict.fromkeys(_DELTAS)
    notes = [own["note"]]
    told: dict[str, typing.Any] = dict.fromkeys(_DELTAS) | {"no_interval": None}
    if not own["n"] or not other["n"]:
        told["no_interval"] = "no run counts" if not own["n"] else "the base has no run that counts"
        return own | told | {"note": "; ".join(filter(None, [*notes, _unheld(own, other)])) or None}
    if own["val_bpb"] is None or other["val_bpb"] is None:
        notes.append(_unheld(own, other))
        told["no_interval"] = "no score"
    elif not (same := same_text(text_of(rows), text_of(base))):
        what = "not known to be scored on the same text as" if same is None else "scored on other text than"
        notes.append(f"{what} the base: no difference of scores")
    else:
        told |= _score_deltas(rows, base)
        if own["final_stage"] != other["final_stage"]:
            notes.append(f"claims the stage {own['final_stage']}, the base {other['final_stage']}")
    if _machines(rows) == _machines(base):
        told["steps_won"] = _steps_won(own, other)
    else:
        notes.append("trained on another machine than the base: no steps won or lost")
    for name, value in (("delta_steps", "steps"), ("delta_bytes", "artifact_bytes")):
        if own[value] is not None and other[value] is not None:
            told[name] = own[value] - other[value]
    return own | told | {"note": "; ".join(filter(None, notes)) or None}


def _unheld(own: Record, base: Record) -> str | None:
    """What is said of a variant that cannot be held against its base for want of a score."""
    if own["diagnostic_only"] or base["diagnostic_only"]:
        return "a diagnostic run claims no score: no difference of scores"
    return "the base has no score: nothing to compare with" if base["val_bpb"] is None else "no score yet"


_DELTAS = tuple(column.name for column in (*AGAINST_SCORE, *AGAINST_TIME, *AGAINST_SIZE) if column.kind is float)


def _machines(rows: Variant) -> set[tuple[typing.Any, ...]]:
    return {(*(getattr(row, name) for name in MACHINE), row.hardware) for row in rows if row.counted}


def _score_deltas(rows: Variant, base: Variant) -> dict[str, typing.Any]:
    ours, theirs = ([row.val_bpb for row in one if row.counted and row.val_bpb is not None] for one in (rows, base))
    if not ours or not theirs:
        return {"no_interval": "no score"}
    delta = mean(ours) - mean(theirs)
    ratios = [row.val_loss / row.val_bpb for row in base if row.counted and row.val_loss and row.val_bpb]
    nats = mean(ratios) if ratios else None
    told: dict[str, typing.Any] = {"delta_bpb": delta, "delta_nats": None if nats is None else delta * nats}
    found = _welch(ours, theirs)
    if isinstance(found, str):
        return told | {"no_interval": found}
    for end, sign in (("low", -1), ("high", 1)):
        told[f"delta_bpb_{end}"] = edge = delta + sign * found.half_width
        told[f"delta_nats_{end}"] = None if nats is None else edge * nats
    return told


def _welch(ours: Sequence[float], theirs: Sequence[float]) -> Welch | str:
    """The test, or why there is no interval."""
    for whose, scores in (("", ours), ("base ", theirs)):
        if len(scores) < 2:
            return f"none: {whose}n=1"
    try:
        return welch(sample_of(ours), sample_of(theirs))
    except NotTestable:
        return "none: no spread"


def _steps_won(own: Record, base: Record) -> float | None:
    """
    >>> round(_steps_won({"step_avg_ms": 83.87}, {"step_avg_ms": 82.37, "steps": 7284}))
    -130
    """
    ours, theirs, steps = own["step_avg_ms"], base["step_avg_ms"], base["steps"]
    return steps * (theirs / ours - 1) if ours and theirs and steps is not None else None


def _mean(values: Sequence[float | None]) -> float | None:
    """Of all of them, or of none."""
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None
