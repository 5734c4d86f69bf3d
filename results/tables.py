"""Tables as text: values in, text out. The seed table has the columns, order and signs of the challenge's records."""

from collections.abc import Callable, Sequence

from results.dataset import data_line, data_warning, is_of_fineweb_size
from results.gates import Gate
from results.rows import Row
from results.spec import Spec
from results.stats import mean, sample_sd, t_half_width

NOTHING = "-"
HEADER = ["Seed", "step_avg", "Steps", "Pre-TTT BPB", "Post-TTT BPB", "TTT Gain", "TTT Time", "Artifact"]
LEGEND = (
    "TTT Gain = Post-TTT - Pre-TTT: negative is better. TTT Time is the adaptation loop's own clock where it is known. "
    "Artifact is code and compressed model, decimal megabytes. BPB is per byte of the normalised text."
)
DIAGNOSTIC = (
    "DIAGNOSTIC ONLY: this run may have learned from the validation text before it was scored. "
    "None of its numbers is a score, and nothing of it can be submitted."
)
SIMULATED = "SIMULATED HARDWARE: the GPUs were declared, not real. No time here is a measurement and no policy passes."


def milliseconds(value: float) -> str:
    return f"{value:.2f}ms"


def bits(value: float) -> str:
    return f"{value:.8f}"


def gain(value: float) -> str:
    return f"{value:+.8f}"


def stamped(text: str) -> str:
    """A BPB of a diagnostic run, so that it can be quoted as nothing else."""
    return f"{text} (diagnostic)"


def seconds(value: float) -> str:
    return f"{value:.1f}s"


def megabytes(value: float) -> str:
    return f"{value / 1e6:.3f}MB"


# How each column of the seed table is had from a row, and written.
CELLS: tuple[tuple[Callable[[Row], float | None], Callable[[float], str]], ...] = (
    (lambda row: row.step_avg_ms, milliseconds),
    (lambda row: row.steps, lambda value: f"{value:.0f}"),
    (lambda row: row.pre_ttt_bpb, bits),
    (lambda row: row.post_ttt_bpb, bits),
    (lambda row: row.ttt_gain_bpb, gain),
    (lambda row: row.ttt_shown_s, seconds),
    (lambda row: row.artifact_bytes, megabytes),
)


def seed_cells(rows: Sequence[Row]) -> list[list[str]]:
    """The header, a row a registered seed, and the mean of the counted ones."""
    cells = [HEADER]
    columns = [(get, _stamping(write) if any(row.diagnostic_only for row in rows) else write) for get, write in CELLS]
    for row in rows:
        shown = [NOTHING if (value := get(row)) is None else write(value) for get, write in columns]
        cells.append([str(row.seed), *(shown if row.counted else [row.status, *[NOTHING] * (len(CELLS) - 1)])])
    counted = [row for row in rows if row.counted]
    if counted:
        label = "Mean" if len(counted) == len(rows) else f"Mean of {len(counted)}/{len(rows)}"
        cells.append([label, *(_mean_cell(counted, get, write) for get, write in columns)])
    return cells


def _stamping(write: Callable[[float], str]) -> Callable[[float], str]:
    return (lambda value: stamped(write(value))) if write in (bits, gain) else write


def _mean_cell(rows: Sequence[Row], get: Callable[[Row], float | None], write: Callable[[float], str]) -> str:
    known = [value for row in rows if (value := get(row)) is not None]
    return write(mean(known)) if len(known) == len(rows) else NOTHING


def markdown_table(cells: Sequence[Sequence[str]]) -> str:
    """
    >>> print(markdown_table([["a", "b"], ["1", "x|y"]]), end="")
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]]) + "\n"


def plain_table(cells: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


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


def spread_lines(rows: Sequence[Row]) -> list[str]:
    """Mean, sample standard deviation and interval of what is claimed, over the counted seeds."""
    counted = [row for row in rows if row.counted]
    lines = []
    for name, unit in (("val_bpb", "bits/byte"), ("val_loss", "nats/token")):
        if known := [value for row in counted if (value := getattr(row, name)) is not None]:
            stages = "/".join(sorted({row.final_stage or "" for row in counted}))
            lines.append(spread_line(f"{name} ({stages})", known, unit))
    return lines


def published_lines(spec: Spec, rows: Sequence[Row]) -> list[str]:
    """What somebody else gives for the recipe, and whether ours may be held against it; nothing where nobody does."""
    if spec.published is None:
        return []
    value, status, source = (spec.published[key] for key in ("value", "status", "source"))
    whose = "this recipe without the overrides" if spec.overrides else "this recipe"
    what = "no value yet" if value is None else f"{value:.10g} BPB on FineWeb"
    line = f"Published for {whose}: {what} ({status}; {source})."
    if value is None or not any(row.counted for row in rows):
        return [line]
    if any(row.diagnostic_only for row in rows):
        return [f"{line} A diagnostic run: not comparable."]
    same = is_of_fineweb_size(rows)
    return [f"{line} {'The validation text has the size of that one.' if same else 'Other data: not comparable.'}"]


def gate_cells(gates: Sequence[Gate]) -> list[list[str]]:
    cells = [["Gate", "Value", "Limit", "Margin", "Seed", "Verdict"]]
    for gate in gates:
        shown = [_amount(value, gate.unit) for value in (gate.value, gate.limit, gate.margin)]
        if shown[0] == shown[1] and gate.verdict == "fail" and isinstance(gate.value, float):
            shown[0] = f"{gate.value!r} {gate.unit}"  # over by less than what is shown
        cells.append([gate.name, *shown, NOTHING if gate.seed is None else str(gate.seed), gate.verdict])
    return cells


def _amount(value: float | str | None, unit: str) -> str:
    if value is None or isinstance(value, str):
        return NOTHING if value is None else value
    return f"{value:.3f} s" if unit == "s" else f"{value:,.0f} {unit}".rstrip()


def report(
    spec: Spec,
    rows: Sequence[Row],
    gates: Sequence[Gate],
    notes: Sequence[str],
    table: Callable[[Sequence[Sequence[str]]], str] = markdown_table,
) -> str:
    """table.md: what was asked, the seed table, its spread, the gates, and attempts that do not count."""
    what = " ".join([spec.recipe, *(f"--set {one}" for one in spec.overrides)])
    mark = "# " if table is markdown_table else ""
    diagnostic = any(row.diagnostic_only for row in rows)
    warning = "; ".join(filter(None, ["DIAGNOSTIC ONLY" if diagnostic else "", data_warning(rows)]))
    parts = [f"{mark}{what}, seeds {', '.join(str(row.seed) for row in rows)}" + (f" ({warning})" if warning else "")]
    if diagnostic:
        parts.append(DIAGNOSTIC)
    if spec.target_class == "simulated":
        parts.append(SIMULATED)
    hardware = sorted({row.hardware for row in rows if row.hardware})
    parts.append(
        f"Submission {spec.folder.name}, bundle {spec.bundle_sha256[:12]}, target class {spec.target_class}"
        + (f" ({'; '.join(hardware)})" if hardware else "")
    )
    parts.append(data_line(rows))
    parts += [table(seed_cells(rows)).rstrip(), LEGEND, *published_lines(spec, rows), *spread_lines(rows)]
    parts += [f"Policy {spec.policy_name}:", table(gate_cells(gates)).rstrip()]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"
