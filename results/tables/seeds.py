"""The seed table: columns, order, signs and digits of the challenge's records; and the spread of what is claimed."""

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.rows import Row
from results.stats import mean, sample_sd, t_half_width
from results.tables.figures import NOTHING, bits, gain, megabytes, milliseconds, seconds, stamped, whole
from results.tables.render import Cells, Column, Record, Table, cells_of

if typing.TYPE_CHECKING:
    from results.parse.run import ParsedRun

LEGEND = (
    "TTT Gain = Post-TTT - Pre-TTT: negative is better. TTT Time is the adaptation loop's own clock where it is known. "
    "Artifact is code and compressed model, decimal megabytes. BPB is per byte of the normalised text."
)
DIAGNOSTIC = (
    "DIAGNOSTIC ONLY: this run may have learned from the validation text before it was scored. "
    "None of its numbers is a score, and nothing of it can be submitted."
)
OF_SCRIPT = (
    "A script's run: seed, steps, scores, losses and times are what its own log says; bytes are those of the sealed "
    "files. No evaluator of ours had a part in it."
)
SIMULATED = "SIMULATED HARDWARE: the GPUs were declared, not real. No time here is a measurement and no policy passes."
COUNTED = "counted"


@dataclass(frozen=True, kw_only=True)
class SeedLine:
    """What the table shows of a run, wherever it is from. Without a gain, it is the difference of its two scores."""

    seed: int | None
    label: str | None = None  # where the seed alone does not say which run it is
    status: str = COUNTED
    diagnostic_only: bool = False
    target_class: str | None = None
    step_avg_ms: float | None = None
    steps: int | None = None
    pre_ttt_bpb: float | None = None
    post_ttt_bpb: float | None = None
    ttt_gain_bpb: float | None = None
    ttt_loop_s: float | None = None
    ttt_time_s: float | None = None
    artifact_bytes: int | None = None


def line_of_row(row: Row) -> SeedLine:
    names = SeedLine.__dataclass_fields__.keys() - {"label"}
    return SeedLine(**{name: getattr(row, name) for name in names})


def line_of_parsed(run: "ParsedRun", label: str | None = None) -> SeedLine:
    names = SeedLine.__dataclass_fields__.keys() & {*type(run).__dataclass_fields__}
    return SeedLine(**{name: getattr(run, name) for name in names}, ttt_gain_bpb=run.ttt_gain, label=label)


def _stamping(write: Callable[[float], str], name: str) -> Callable[[Record], str]:
    """Shows a BPB; of a diagnostic run, with its stamp."""

    def show(record: Record) -> str:
        if (value := record[name]) is None:
            return NOTHING
        return stamped(write(value)) if record["diagnostic_only"] else write(value)

    return show


def _step_avg(record: Record) -> str:
    """The first figure's place also tells why a seed has none."""
    if not record["n"]:
        return str(record["status"])
    return NOTHING if (value := record["step_avg_ms"]) is None else milliseconds(value)


COLUMNS = (
    Column(name="label", kind=str, meaning="the seed, or the mean and over how many", header="Seed"),
    Column(name="seed", kind=int, meaning="empty in the mean"),
    Column(name="status", kind=str, meaning="counted, or why not; of the mean: mean"),
    Column(name="n", kind=int, meaning="seeds that the row is of; 0 where it does not count"),
    Column(name="diagnostic_only", kind=bool, meaning="True: none of its scores is a score"),
    Column(name="target_class", kind=str, meaning="simulated: no time is a measurement"),
    Column(
        name="step_avg_ms", kind=float, unit="ms", meaning="training time over steps", header="step_avg", show=_step_avg
    ),
    Column(name="steps", kind=float, count=True, meaning="optimizer steps", header="Steps", write=whole),
    Column(
        name="pre_ttt_bpb",
        kind=float,
        unit="bits/byte",
        meaning="before test-time training",
        header="Pre-TTT BPB",
        show=_stamping(bits, "pre_ttt_bpb"),
    ),
    Column(
        name="post_ttt_bpb",
        kind=float,
        unit="bits/byte",
        meaning="after test-time training",
        header="Post-TTT BPB",
        show=_stamping(bits, "post_ttt_bpb"),
    ),
    Column(
        name="ttt_gain_bpb",
        kind=float,
        unit="bits/byte",
        meaning="post - pre: negative is better",
        header="TTT Gain",
        show=_stamping(gain, "ttt_gain_bpb"),
    ),
    Column(
        name="ttt_shown_s",
        kind=float,
        unit="s",
        meaning="the adaptation loop's own clock, else the stage's",
        header="TTT Time",
        write=seconds,
    ),
    Column(name="ttt_loop_s", kind=float, unit="s", meaning="the adaptation loop's own clock"),
    Column(name="ttt_time_s", kind=float, unit="s", meaning="evaluation time of the stage"),
    Column(
        name="artifact_bytes",
        kind=float,
        count=True,
        unit="B",
        meaning="code and compressed model",
        header="Artifact",
        write=megabytes,
    ),
)
MEASURED = tuple(column.name for column in COLUMNS if column.kind is float)


def seed_records(lines: Sequence[SeedLine]) -> list[Record]:
    """A record a line in the given order, and the mean of the counted ones."""
    records: list[Record] = [_record(line) for line in lines]
    counted = [record for record in records if record["n"]]
    if counted:
        label = "Mean" if len(counted) == len(records) else f"Mean of {len(counted)}/{len(records)}"
        records.append(
            {
                "label": label,
                "status": "mean",
                "n": len(counted),
                "diagnostic_only": any(record["diagnostic_only"] for record in records),
                "target_class": records[0]["target_class"],
                **{name: _mean([record[name] for record in counted]) for name in MEASURED},
            }
        )
    return records


def _record(line: SeedLine) -> dict[str, typing.Any]:
    label = line.label or (NOTHING if line.seed is None else str(line.seed))
    record = {"label": label, "n": int(line.status == COUNTED)}
    record |= {name: getattr(line, name) for name in SeedLine.__dataclass_fields__ if name != "label"}
    pre, post = line.pre_ttt_bpb, line.post_ttt_bpb
    if line.ttt_gain_bpb is None and pre is not None and post is not None:
        record["ttt_gain_bpb"] = post - pre
    record["ttt_shown_s"] = line.ttt_time_s if line.ttt_loop_s is None else line.ttt_loop_s
    return record if record["n"] else record | dict.fromkeys(MEASURED)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None


def seed_table(lines: Sequence[SeedLine], title: str, notes: Sequence[str] = ()) -> Table:
    records = seed_records(lines)
    stamps = [DIAGNOSTIC] if any(line.diagnostic_only for line in lines) else []
    stamps += [SIMULATED] if any(line.target_class == "simulated" for line in lines) else []
    return Table(
        name="seeds",
        title=title,
        columns=COLUMNS,
        records=records,
        notes=[*stamps, LEGEND, *notes],
        footer=len(records) - len(lines),
    )


def seed_cells(rows: Sequence[Row]) -> Cells:
    """The header, a row a registered seed, and the mean of the counted ones, as shown."""
    return cells_of(COLUMNS, seed_records([line_of_row(row) for row in rows]))


def spread_line(name: str, values: Sequence[float], unit: str) -> str:
    """
    >>> spread_line("val_bpb", [1.0, 2.0, 3.0], "bits/byte")
    'val_bpb: mean 2.00000000 ± 1.00000000 bits/byte (sample sd, n=3); 95 % t interval ± 2.48413771'
    >>> spread_line("val_bpb", [1.0], "bits/byte")
    'val_bpb: 1.00000000 bits/byte (n=1: no spread)'
    """
    sd, half = sample_sd(values), t_half_width(values)
    if sd is None or half is None:
        return f"{name}: {mean(values):.8f} {unit} (n=1: no spread)"
    return (
        f"{name}: mean {mean(values):.8f} ± {sd:.8f} {unit} (sample sd, n={len(values)}); 95 % t interval ± {half:.8f}"
    )


def spread(values: Sequence[float | None]) -> dict[str, float | int | None]:
    """The same as numbers, of what is known."""
    known = [value for value in values if value is not None]
    if not known:
        return {"n": 0, "mean": None, "sample_sd": None, "t95_half_width": None}
    return {"n": len(known), "mean": mean(known), "sample_sd": sample_sd(known), "t95_half_width": t_half_width(known)}


def unscored(rows: Sequence[Row]) -> list[int]:
    """Seeds whose run counts and has no score: a script's log that tells none. They are in no mean, and none is whole
    without them."""
    return [row.seed for row in rows if row.counted and not row.diagnostic_only and row.val_bpb is None]


def spread_lines(rows: Sequence[Row]) -> list[str]:
    """Mean, sample standard deviation and interval of what is claimed, over the counted seeds that have it; of how
    many, where that is not all."""
    lines = []
    for name, unit in (("val_bpb", "bits/byte"), ("val_loss", "nats/token")):
        known = [row for row in rows if row.counted and getattr(row, name) is not None]
        if known:
            label = "/".join(sorted({row.final_stage for row in known if row.final_stage}))
            of = "" if len(known) == len(rows) else f", {len(known)} of {len(rows)} registered seeds"
            lines.append(
                spread_line(
                    f"{name} ({label}){of}" if label else f"{name}{of}", [getattr(row, name) for row in known], unit
                )
            )
    return lines
