"""What is said of one submission: table.md, and its parts."""

from collections.abc import Callable, Sequence

from results.dataset import data_line, data_warning, is_of_fineweb_size
from results.gates import Gate
from results.rows import Row
from results.spec import Spec
from results.tables.figures import NOTHING
from results.tables.render import markdown_table
from results.tables.seeds import DIAGNOSTIC, LEGEND, OF_SCRIPT, SIMULATED, seed_cells, spread_lines


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
    if unit == "p":
        return f"{value:.4g}"
    return f"{value:.3f} s" if unit == "s" else f"{value:,.0f} {unit}".rstrip()


def title_of(spec: Spec, rows: Sequence[Row]) -> str:
    """What was asked, and what must not be overlooked."""
    given = [] if spec.script is None else [f"--env {name}={value}" for name, value in spec.script.environment.items()]
    what = " ".join([spec.recipe, *(f"--set {one}" for one in spec.overrides), *given])
    diagnostic = any(row.diagnostic_only for row in rows)
    warning = "; ".join(filter(None, ["DIAGNOSTIC ONLY" if diagnostic else "", data_warning(rows)]))
    return f"{what}, seeds {', '.join(str(row.seed) for row in rows)}" + (f" ({warning})" if warning else "")


def report(
    spec: Spec,
    rows: Sequence[Row],
    gates: Sequence[Gate],
    notes: Sequence[str],
    table: Callable[[Sequence[Sequence[str]]], str] = markdown_table,
    paragraph: Callable[[str], str] = str,
) -> str:
    """table.md: what was asked, the seed table, its spread, the gates, and attempts that do not count. In another
    place, `table` and `paragraph` say how either is written."""
    parts = [("# " if table is markdown_table else "") + title_of(spec, rows)]
    if any(row.diagnostic_only for row in rows):
        parts.append(DIAGNOSTIC)
    if spec.target_class == "simulated":
        parts.append(SIMULATED)
    if spec.script is not None:
        parts.append(OF_SCRIPT)
    what = "bundle" if spec.script is None else "script"
    hardware = sorted({row.hardware for row in rows if row.hardware})
    parts.append(
        f"Submission {spec.folder.name}, {what} {spec.bundle_sha256[:12]}, target class {spec.target_class}"
        + (f" ({'; '.join(hardware)})" if hardware else "")
    )
    parts.append(data_line(rows, spec.data_name))
    parts = [paragraph(part) for part in parts]
    parts.append(table(seed_cells(rows)).rstrip())
    parts += [paragraph(part) for part in (LEGEND, *published_lines(spec, rows), *spread_lines(rows))]
    parts += [f"Policy {spec.policy_name}:", table(gate_cells(gates)).rstrip()]
    parts += [paragraph(f"{gate.name}: {gate.note}.") for gate in gates if gate.note]
    if notes:
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"
