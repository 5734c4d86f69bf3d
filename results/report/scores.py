"""Charts of what was scored: BPB stage by stage, what test-time training gains and where."""

import typing
from collections.abc import Sequence

from results.report.chart import (
    Absent,
    Chart,
    Spec,
    axis_title,
    every,
    padded,
    specification,
    values,
)
from results.report.subject import Subject
from results.report.theme import AXIS, GRID, series
from results.report.training import TABLE_ROWS, lines, names_at_the_end

STAGES = (
    ("pre_quant_bpb", "before", "quantization"),
    ("roundtrip_bpb", "quantized,", "plain"),
    ("sliding_bpb", "sliding", "windows"),
    ("ttt_bpb", "test-time", "training"),
)


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
    drawn = {seed: [(end / 1000, so_far) for end, _, so_far in parts] for seed, parts in gains.items()}
    part = max(parts[0][0] for parts in gains.values())
    spec = lines(drawn, "bits per byte", x="thousand tokens of the validation text scored")
    domain = padded([*(value for parts in gains.values() for _, *both in parts for value in both), 0.0])
    _with_parts(spec, gains, domain)
    told = "; ".join(f"seed {seed} {parts[-1][2]:+.5f}" for seed, parts in gains.items())
    best = min((parts[-1][2], seed) for seed, parts in gains.items())[1]
    return Chart(
        name="gain",
        title=title,
        caption=f"BPB with test-time training less BPB without it, on the same tokens: points are parts of {part:,} "
        "tokens, lines the sum so far, both drawn where a part ends. Below zero is better; the end of a line is the "
        "TTT Gain of the table.",
        alternative=f"Gain over the whole text: {told} bits per byte. The largest is seed {best}'s.",
        columns=("Tokens scored", *(f"Seed {seed}, this part / so far" for seed in gains)),
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
        {"seed": str(seed), "x": end / 1000, "y": here} for seed, parts in gains.items() for end, here, _ in parts
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
    ends = [end for end, *_ in max(gains.values(), key=len)]
    by_seed = [{end: (here, so_far) for end, here, so_far in parts} for parts in gains.values()]
    rows = []
    for index in every(len(ends), TABLE_ROWS):
        cells = [f"{one[at][0]:+.5f} / {one[at][1]:+.5f}" if (at := ends[index]) in one else "-" for one in by_seed]
        rows.append((f"{ends[index]:,}", *cells))
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
