"""Charts of what was scored: BPB stage by stage, what test-time training gains and where, bytes against the cap."""

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
    every,
    padded,
    specification,
    spread_out,
    values,
)
from results.report.compressors import compressor_lines
from results.report.subject import Subject, artifact_parts
from results.report.theme import ACCENT, AXIS, CAP, GRID, INK, MUTED, series
from results.report.training import TABLE_ROWS, lines, names_at_the_end
from results.stats import mean

STAGES = (
    ("pre_quant_bpb", "before", "quantization"),
    ("roundtrip_bpb", "quantized,", "plain"),
    ("sliding_bpb", "sliding", "windows"),
    ("ttt_bpb", "test-time", "training"),
)
BAR_HEIGHT = 26


def stages_chart(subject: Subject) -> Chart | Absent:
    title = "BPB, stage by stage"
    rows = subject.counted
    stages = [(name, [a, b]) for name, a, b in STAGES if any(getattr(row, name) is not None for row in rows)]
    if not stages or subject.found.diagnostic_only:
        why = "a diagnostic run has no score." if subject.found.diagnostic_only else "no seed is scored yet."
        return Absent("stages", title, why)
    points = [
        {"seed": str(row.seed), "stage": " ".join(words), "y": value}
        for row in rows
        for name, words in stages
        if (value := getattr(row, name)) is not None
    ]
    said = "; ".join(
        f"seed {row.seed} "
        + ", ".join(
            f"{' '.join(words)} {value:.4f}" for name, words in stages if (value := getattr(row, name)) is not None
        )
        for row in rows
    )
    return Chart(
        name="stages",
        title=title,
        caption="Bits per byte of the validation text after each stage, one line a seed; the axis does not start at "
        "zero. Lower is better. The last stage is what is claimed.",
        alternative=f"BPB by stage: {said}.",
        columns=("Seed", *(" ".join(words).capitalize() for _, words in stages)),
        rows=tuple((str(row.seed), *(_bits(getattr(row, name)) for name, _ in stages)) for row in rows),
        spec=_stages_spec(points, [" ".join(words) for _, words in stages], [str(row.seed) for row in rows]),
    )


def _bits(value: float | None) -> str:
    return "-" if value is None else f"{value:.8f}"


def _stages_spec(points: Sequence[dict[str, typing.Any]], stages: Sequence[str], seeds: Sequence[str]) -> Spec:
    domain = padded([one["y"] for one in points], 0.1)
    seeds = [seed for seed in seeds if any(one["seed"] == seed for one in points)]
    looks = [series(index) for index in range(len(seeds))]

    def by_seed(place: int) -> dict[str, typing.Any]:
        scale = {"domain": seeds, "range": [look[place] for look in looks]}
        return {"field": "seed", "type": "nominal", "scale": scale, "legend": None}

    at = {
        "x": {
            "field": "stage",
            "type": "ordinal",
            "sort": list(stages),
            "scale": {"type": "point", "padding": 0.35},
            "axis": {"title": None, "labelAngle": 0, "labelExpr": "split(datum.label, ' ')", "labelLimit": 90},
        },
        "y": {
            "field": "y",
            "type": "quantitative",
            "scale": {"domain": domain, "zero": False, "nice": False},
            "axis": {**axis_title("bits per byte"), "tickCount": 5, "gridColor": GRID.light},
        },
        "color": by_seed(0),
    }
    ends = [[one["y"] for one in points if one["seed"] == seed][-1] for seed in seeds]
    return specification(
        layer=[
            {
                "data": values(points),
                "mark": {"type": "line", "strokeWidth": 1.6},
                "encoding": at | {"strokeDash": by_seed(1)},
            },
            {
                "data": values(points),
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": at | {"shape": by_seed(2)},
            },
            names_at_the_end(seeds, ends, domain),
        ]
    )


def gain_chart(subject: Subject) -> Chart | Absent:
    """What test-time training gains in each part of the stream; or how its BPB runs, where that is all we know."""
    title = "Gain of test-time training by chunk"
    gains = {seed: trace.gain for seed, trace in subject.traces.items() if trace.gain}
    if not gains:
        return _running_chart(subject, title)
    drawn = {seed: [(first / 1000, so_far) for first, _, so_far in parts] for seed, parts in gains.items()}
    part = min(parts[1][0] - parts[0][0] if len(parts) > 1 else 0 for parts in gains.values())
    spec = lines(drawn, "bits per byte, cumulative", x="thousand tokens of the validation text scored")
    domain = padded([*(value for parts in gains.values() for _, *both in parts for value in both), 0.0])
    _with_parts(spec, gains, domain)
    told = "; ".join(f"seed {seed} {parts[-1][2]:+.5f}" for seed, parts in gains.items())
    best = min((parts[-1][2], seed) for seed, parts in gains.items())[1]
    return Chart(
        name="gain",
        title=title,
        caption=f"BPB with test-time training less BPB without it, on the same tokens: points are parts of {part:,} "
        "tokens, lines the sum so far. Below zero is better; the end of a line is the TTT Gain of the table.",
        alternative=f"Gain over the whole text: {told} bits per byte. The largest is seed {best}'s.",
        columns=("First token", *(f"Seed {seed}, this part / so far" for seed in gains)),
        rows=_gain_rows(gains),
        spec=spec,
    )


def _with_parts(spec: Spec, gains: dict[int, list[tuple[int, float, float]]], domain: list[float]) -> None:
    """Zero as a line, each part as a point, and the axis wide enough for both."""
    looks = {str(seed): series(index) for index, seed in enumerate(gains)}
    curve = spec["layer"][0]
    curve["mark"]["point"] = False  # points are the parts
    curve["encoding"]["y"]["scale"]["domain"] = domain
    signed = "datum.value == 0 ? '0' : format(datum.value, '+.4~f')"
    curve["encoding"]["y"]["axis"]["labelExpr"] = signed
    ends = [parts[-1][2] for parts in gains.values()]
    points = [
        {"seed": str(seed), "x": first / 1000, "y": here} for seed, parts in gains.items() for first, here, _ in parts
    ]
    shared = {key: curve["encoding"][key] for key in ("x", "y", "color")}
    shape = {"domain": list(looks), "range": [look[2] for look in looks.values()]}
    spec["layer"] = [
        {"data": {"values": [{"y": 0}]}, "mark": {"type": "rule", "color": AXIS.light}, "encoding": {"y": shared["y"]}},
        {
            "data": values(points),
            "mark": {"type": "point", "size": 22, "filled": True, "opacity": 0.55},
            "encoding": shared | {"shape": {"field": "seed", "type": "nominal", "scale": shape, "legend": None}},
        },
        curve,
        names_at_the_end([str(seed) for seed in gains], ends, domain),
    ]


def _gain_rows(gains: dict[int, list[tuple[int, float, float]]]) -> tuple[tuple[str, ...], ...]:
    firsts = [first for first, *_ in max(gains.values(), key=len)]
    by_seed = [{first: (here, so_far) for first, here, so_far in parts} for parts in gains.values()]
    rows = []
    for index in every(len(firsts), TABLE_ROWS):
        cells = [f"{one[at][0]:+.5f} / {one[at][1]:+.5f}" if (at := firsts[index]) in one else "-" for one in by_seed]
        rows.append((f"{firsts[index]:,}", *cells))
    return tuple(rows)


def _running_chart(subject: Subject, title: str) -> Chart | Absent:
    curves = {seed: trace.running for seed, trace in subject.traces.items() if len(trace.running) > 1}
    if not curves:
        return Absent("gain", title, "the counted runs did no test-time training, or noted nothing of it.")
    return Chart(
        name="gain",
        title="BPB while test-time training runs",
        caption="Bits per byte of all that one process had scored so far, as the run said it. The gain of each chunk "
        "cannot be told: these runs did not note what the same tokens cost without test-time training.",
        alternative="Running BPB ends, by seed: "
        + "; ".join(f"{seed} at {points[-1][1]:.4f}" for seed, points in curves.items())
        + ".",
        columns=("Scored", *(f"Seed {seed}" for seed in curves)),
        rows=tuple(
            (f"{at:,.0f}", *(next((f"{y:.4f}" for x, y in points if x == at), "-") for points in curves.values()))
            for at, _ in _some(max(curves.values(), key=len))
        ),
        spec=lines(curves, "bits per byte so far", x="scored so far, as the run counts it"),
    )


def _some(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [points[index] for index in every(len(points), TABLE_ROWS)]


def bytes_chart(subjects: Sequence[Subject]) -> Chart | Absent:
    """A point a seed, or the mean of each variant; the cap; compressors where they saw the same text."""
    title = "BPB against artifact bytes"
    base = subjects[0]
    subjects = [one for one in subjects if one.found.rows[0].data_sha256 == base.found.rows[0].data_sha256]
    points = _size_points(subjects)
    if not points:
        return Absent("bytes", title, "no seed is scored yet, or none of it is a score.")
    cap = float(base.found.spec.policy["artifact_bytes"])
    references = compressor_lines(base.found.rows[0].data_sha256)
    of = f" The text is {warning}." if (warning := data_warning(base.found.rows)) else ""
    beside = (
        " Horizontal lines: what general compressors make of the same validation text after the training text."
        if references
        else ""
    )
    which = "a seed" if len(subjects) == 1 else "a variant, the mean of its seeds"
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
    places = spread_out([one["y"] for one in points], domain)
    rows = [
        {**one, "x": one["bytes"] / 1e6, "label": place, "index": str(index)}
        for index, (one, place) in enumerate(zip(points, places, strict=True))
    ]
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
        *_names_of_points(_grouped(rows, domain, widest), x, y, widest),
        {
            "data": values([{"x": cap / 1e6}]),
            "mark": {"type": "rule", "color": CAP.light, "strokeWidth": 1.6},
            "encoding": {"x": {"field": "x", **x}},
        },
        {
            "data": values([{"x": cap / 1e6}]),
            "mark": {
                "type": "text",
                "align": "right",
                "baseline": "bottom",
                "dx": 4,
                "dy": -3,
                "color": CAP.light,
                "text": f"cap {cap / 1e6:g} MB",
            },
            "encoding": {"x": {"field": "x", **x}, "y": {"value": 0}},
        },
    ]
    return specification(layer=[*_reference_lines(references, y, domain), *layer])


def _grouped(
    rows: Sequence[dict[str, typing.Any]], domain: Sequence[float], widest: float
) -> list[dict[str, typing.Any]]:
    """One name for seeds that lie on each other; else the rows as they are."""
    ys, xs = [row["y"] for row in rows], [row["x"] for row in rows]
    close = max(ys) - min(ys) < 0.04 * (domain[1] - domain[0]) and max(xs) - min(xs) < 0.03 * widest
    if len(rows) < 2 or not close or not all(row["name"].startswith("seed ") for row in rows):
        return list(rows)
    middle = mean(ys)
    return [{"x": max(xs), "label": middle, "name": f"{len(rows)} seeds, mean {middle:.3f}"}]


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
    if isinstance(found, str):
        return Absent("parts", title, found)
    seed, parts = found
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
        "counted as it ships. Tensors are compressed together; the share of each group is estimated by the entropy of "
        "its bytes.",
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
