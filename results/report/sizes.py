"""Charts of bytes: BPB against the artifact's size and its cap, and what the bytes are spent on."""

import typing
from collections.abc import Sequence

from results.dataset import data_warning
from results.report.chart import (
    HEIGHT,
    WIDTH,
    Absent,
    Chart,
    Spec,
    axis_title,
    cap_line,
    padded,
    specification,
    spread_out,
    values,
)
from results.report.compressors import compressor_lines
from results.report.subject import Subject, artifact_parts, same_text
from results.report.theme import ACCENT, AXIS, GRID, INK, MUTED, series
from results.stats import mean

BAR_HEIGHT = 26
NAMED_VARIANTS = 5


def bytes_chart(subjects: Sequence[Subject]) -> Chart | Absent:
    """A point a seed, or the mean of each variant; the cap; compressors where they saw the same text."""
    title = "BPB against artifact bytes"
    base = subjects[0]
    subjects = [one for one in subjects if same_text(one, base)]
    points = _size_points(subjects)
    if not points:
        return Absent("bytes", title, "no seed is scored yet, or none of it is a score.")
    cap = float(base.found.spec.policy["artifact_bytes"])
    references = compressor_lines(base.found.rows[0].data_sha256) if len(subjects) == 1 else []
    of = f" The text is {warning}." if (warning := data_warning(base.found.rows)) else ""
    beside = (
        " Horizontal lines: what general compressors make of the same validation text after the training text."
        if references
        else ""
    )
    which = "a seed" if len(subjects) == 1 else "a variant: its mean BPB and its largest seed's bytes"
    if len(points) > NAMED_VARIANTS and len(subjects) > 1:
        which += ", named are the first, the best and the largest"
    rows = [(str(one["name"]), f"{one['bytes']:,.0f}", f"{one['y']:.8f}") for one in points]
    rows += [(f"{name}, alone / after the training text", "-", f"{a:.4f} / {b:.4f}") for name, a, b in references]
    told = "; ".join(f"{one['name']} {one['bytes'] / 1e6:.3f} MB, {one['y']:.4f}" for one in points[:12])
    return Chart(
        name="bytes",
        title=title,
        caption=f"Code and compressed weights, decimal megabytes, against the claimed BPB; a point {which}. "
        f"Left of the cap of {cap:,.0f} bytes is legal, lower is better.{beside}{of}",
        alternative=f"{told}. The cap is {cap / 1e6:g} MB."
        + (f" Best compressor: {references[-1][0]} at {references[-1][2]:.3f} bits per byte." if references else ""),
        columns=("Seed" if len(subjects) == 1 else "Variant", "Artifact bytes", "BPB"),
        rows=tuple(rows),
        spec=_bytes_spec(points, cap, [(name, primed) for name, _, primed in references]),
    )


def _size_points(subjects: Sequence[Subject]) -> list[dict[str, typing.Any]]:
    if len(subjects) == 1:
        return [
            {"name": f"seed {row.seed}", "bytes": row.artifact_bytes, "y": row.val_bpb}
            for row in subjects[0].counted
            if row.val_bpb is not None and row.artifact_bytes is not None
        ]
    found = []
    for one in subjects:
        sizes = [row.artifact_bytes for row in one.counted if row.artifact_bytes is not None]
        if one.claimed and sizes:
            found.append({"name": one.label, "bytes": max(sizes), "y": mean([bpb for _, bpb in one.claimed])})
    return found


def _bytes_spec(points: Sequence[dict[str, typing.Any]], cap: float, references: Sequence[tuple[str, float]]) -> Spec:
    widest = max(cap, *(float(one["bytes"]) for one in points)) / 1e6
    domain = padded([*(one["y"] for one in points), *(bpb for _, bpb in references)], 0.12)
    x = {
        "type": "quantitative",
        "scale": {"domain": [0, widest * 1.06], "nice": False},
        "axis": {"title": "artifact, MB (1,000,000 bytes)", "tickCount": 6},
    }
    y = {
        "type": "quantitative",
        "scale": {"domain": domain, "zero": False, "nice": False},
        "axis": {**axis_title("bits per byte"), "tickCount": 5, "gridColor": GRID.light},
    }
    rows = [{**one, "x": one["bytes"] / 1e6, "index": str(index)} for index, one in enumerate(points)]
    looks = [series(index) for index in range(len(points))]
    names = [row["index"] for row in rows]

    def by(place: int) -> dict[str, typing.Any]:
        scale = {"domain": names, "range": [look[place] for look in looks]}
        return {"field": "index", "type": "nominal", "scale": scale, "legend": None}

    layer: list[Spec] = [
        {
            "data": values(rows),
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": {"field": "x", **x}, "y": {"field": "y", **y}, "color": by(0), "shape": by(2)},
        },
        *_names_of_points(_labels(rows, domain, widest), x, y, widest),
        *cap_line(cap / 1e6, f"cap {cap / 1e6:g} MB", x, dx=4),
    ]
    return specification(layer=[*_reference_lines(references, y, domain), *layer])


def _labels(rows: Sequence[dict[str, typing.Any]], domain: Sequence[float], widest: float) -> list[Spec]:
    """Names beside points, apart from each other. Seeds that lie on each other have one; of many variants the first,
    the best and the largest have: the others are in the table."""
    ys, xs = [row["y"] for row in rows], [row["x"] for row in rows]
    are_seeds = all(row["name"].startswith("seed ") for row in rows)
    close = max(ys) - min(ys) < 0.04 * (domain[1] - domain[0]) and max(xs) - min(xs) < 0.03 * widest
    if are_seeds and close and len(rows) > 1:
        return [{"x": max(xs), "label": mean(ys), "name": f"{len(rows)} seeds, mean {mean(ys):.3f}"}]
    named = list(rows)
    if not are_seeds and len(rows) > NAMED_VARIANTS:
        chosen = (rows[0], min(rows, key=lambda row: row["y"]), max(rows, key=lambda row: row["x"]))
        named = [row for row in rows if row in chosen]
    places = spread_out([row["y"] for row in named], domain)
    return [{**row, "label": place} for row, place in zip(named, places, strict=True)]


def _names_of_points(rows: Sequence[dict[str, typing.Any]], x: Spec, y: Spec, widest: float) -> list[Spec]:
    """Right of a point, or left of it where the right has no room."""
    found = []
    for left in (False, True):
        part = [row for row in rows if (row["x"] > widest * 0.6) == left]
        mark = {"type": "text", "align": "right" if left else "left", "dx": -9 if left else 9, "baseline": "middle"}
        encoding = {"x": {"field": "x", **x}, "y": {"field": "label", **y}, "text": {"field": "name"}}
        if part:
            found.append({"data": values(part), "mark": {**mark, "color": INK.light}, "encoding": encoding})
    return found


def _reference_lines(references: Sequence[tuple[str, float]], y: Spec, domain: Sequence[float]) -> list[Spec]:
    if not references:
        return []
    spots = spread_out([bpb for _, bpb in references], domain)
    rows = [
        {"y": bpb, "label": at, "name": f"{name}  {bpb:.2f}"} for (name, bpb), at in zip(references, spots, strict=True)
    ]
    text = {"type": "text", "align": "left", "baseline": "middle", "color": MUTED.light}
    return [
        {
            "data": values(rows),
            "mark": {"type": "rule", "color": AXIS.light, "strokeDash": [3, 3]},
            "encoding": {"y": {"field": "y", **y}},
        },
        {
            "data": values(rows),
            "mark": text,
            "encoding": {"x": {"value": WIDTH + 5}, "y": {"field": "label", **y}, "text": {"field": "name"}},
        },
    ]


def parts_chart(subject: Subject) -> Chart | Absent:
    title = "What the artifact's bytes are spent on"
    found = artifact_parts(subject)
    if found is None:
        return Absent("parts", title, "no counted seed has an artifact of known size.")
    seed, parts, unknown = found
    total = sum(size for _, size in parts)
    cap = float(subject.found.spec.policy["artifact_bytes"])
    parts = sorted(parts, key=lambda one: -one[1])
    rows: list[dict[str, typing.Any]] = [
        {"part": name, "kb": size / 1000, "label": f"{size / 1000:,.1f} kB · {_share(size / total)}"}
        for name, size in parts
    ]
    return Chart(
        name="parts",
        title=title,
        caption=f"Seed {seed}, the largest: {total:,.0f} of {cap:,.0f} bytes ({100 * total / cap:.1f} %). Code is "
        "counted as it ships. "
        + (
            f"What the weights are made of is not known: {unknown}."
            if unknown
            else "Tensors are compressed together; the share of each group is estimated by the entropy of its bytes."
        ),
        alternative="; ".join(f"{row['part']} {row['label']}" for row in rows) + ".",
        columns=("Part", "Bytes", "Share"),
        rows=tuple((name, f"{size:,.0f}", f"{100 * size / total:.1f} %") for name, size in parts),
        spec=_bars(rows, max(row["kb"] for row in rows)),
    )


def _share(part: float) -> str:
    """
    >>> _share(0.348), _share(0.0012)
    ('35 %', 'under 1 %')
    """
    return f"{100 * part:.0f} %" if part >= 0.005 else "under 1 %"


def _bars(rows: Sequence[dict[str, typing.Any]], longest: float) -> Spec:
    """Bars with their figures: no axis is needed to read them."""
    y = {
        "field": "part",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "labelColor": INK.light, "labelLimit": 190},
        "scale": {"paddingInner": 0.35},
    }
    x = {
        "field": "kb",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [0, longest * 1.5], "nice": False},
    }
    return specification(
        width=WIDTH - 60,
        height=max(BAR_HEIGHT * len(rows), HEIGHT // 3),
        data=values(rows),
        layer=[
            {"mark": {"type": "bar", "color": ACCENT.light}, "encoding": {"y": y, "x": x}},
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "color": INK.light},
                "encoding": {"y": y, "x": x, "text": {"field": "label"}},
            },
        ],
    )
