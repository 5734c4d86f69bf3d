"""Charts of training: loss, validation on the way, step time. One line a seed."""

import math
import typing
from collections.abc import Callable, Sequence

from results.report.chart import (
    HEIGHT,
    WIDTH,
    Absent,
    Chart,
    Spec,
    axis_title,
    every,
    log_ticks,
    padded,
    specification,
    spread_out,
    thinned,
    values,
)
from results.report.subject import Subject
from results.report.theme import GRID, INK, series
from results.report.traces import Points, Trace

POINTS = 300  # of a line; more cannot be seen at this width
TABLE_ROWS = 12  # of a curve
SEEDS_TOLD = 5  # in a caption; of more, the range

Curves = typing.Mapping[int, Points]


def loss_chart(subject: Subject) -> Chart | Absent:
    title = "Training loss"
    curves = _curves(subject, lambda trace: trace.loss)
    if not curves:
        return Absent("loss", title, "the counted runs noted no training loss.")
    return Chart(
        name="loss",
        title=title,
        caption="Nats per token of the training batch at each noted step, one line a seed; the axis "
        + ("is logarithmic." if is_wide(curves) else "does not start at zero.")
        + _thinning(curves),
        alternative=_told(curves, "Training loss falls", "nats per token", 3),
        columns=("Step", *(f"Seed {seed}" for seed in curves)),
        rows=_rows(curves, 4),
        spec=lines(curves, "nats per token", logarithmic=True),
    )


def validation_chart(subject: Subject) -> Chart | Absent:
    title = "Validation during training"
    curves = _curves(subject, lambda trace: trace.val)
    if not curves:
        return Absent("validation", title, "these runs were not validated before training ended.")
    return Chart(
        name="validation",
        title=title,
        caption="Bits per byte of the validation text, of the weights as they were at that step: before averaging, "
        "quantization and test-time training, so no claim." + _thinning(curves),
        alternative=_told(curves, "Validation BPB goes", "bits per byte", 4),
        columns=("Step", *(f"Seed {seed}" for seed in curves)),
        rows=_rows(curves, 4),
        spec=lines(curves, "bits per byte"),
    )


def step_time_chart(subject: Subject) -> Chart | Absent:
    title = "Step time"
    curves = _curves(subject, lambda trace: trace.step_ms)
    if not curves:
        return Absent("step_time", title, "the counted runs noted no times of their steps.")
    averages = [(row.step_avg_ms, row.seed) for row in subject.counted if row.step_avg_ms is not None]
    told = ", ".join(f"{ms:.2f} ms (seed {seed})" for ms, seed in averages)
    if len(averages) > SEEDS_TOLD:
        told = f"{min(averages)[0]:.2f} to {max(averages)[0]:.2f} ms"
    known = f" Average over all steps: {told}." if told else ""
    return Chart(
        name="step_time",
        title=title,
        caption="Milliseconds a step by the trainer's clock, between one noted step and the next; from zero."
        + known
        + _thinning(curves),
        alternative=_told(curves, "Step time goes", "ms", 1) + known,
        columns=("Step", *(f"Seed {seed}" for seed in curves)),
        rows=_rows(curves, 1),
        spec=lines(curves, "milliseconds a step", zero=True),
    )


def _curves(subject: Subject, get: Callable[[Trace], Points]) -> dict[int, Points]:
    found = {seed: get(trace) for seed, trace in subject.traces.items()}
    return {seed: points for seed, points in found.items() if points}


def _thinning(curves: Curves) -> str:
    longest = max(len(points) for points in curves.values())
    if longest <= POINTS:
        return ""
    return (
        f" Of {longest:,} noted points at most {POINTS} are drawn: "
        "the lowest and the highest of each stretch, so that every spike is there."
    )


def _told(curves: Curves, verb: str, unit: str, digits: int) -> str:
    said = [
        f"seed {seed} from {points[0][1]:.{digits}f} at step {points[0][0]:,.0f} to {points[-1][1]:.{digits}f} "
        f"at step {points[-1][0]:,.0f}"
        for seed, points in curves.items()
    ]
    return f"{verb}, in {unit}: {'; '.join(said)}."


def _rows(curves: Curves, digits: int) -> tuple[tuple[str, ...], ...]:
    """Some steps of the longest curve, and what each seed noted there."""
    steps = [step for step, _ in max(curves.values(), key=len)]
    by_seed = [dict(points) for points in curves.values()]
    rows = []
    for index in every(len(steps), TABLE_ROWS):
        cells = [f"{one[steps[index]]:.{digits}f}" if steps[index] in one else "-" for one in by_seed]
        rows.append((f"{steps[index]:,.0f}", *cells))
    return tuple(rows)


def is_wide(curves: Curves) -> bool:
    """Whether a logarithmic axis would have enough round numbers."""
    everything = [value for points in curves.values() for _, value in points]
    return min(everything) > 0 and max(everything) / min(everything) > 2


def lines(curves: Curves, unit: str, *, logarithmic: bool = False, zero: bool = False, x: str = "step") -> Spec:
    """A line a seed, told apart by colour, dash and a name at its end."""
    drawn = {seed: thinned(points, POINTS) for seed, points in curves.items()}
    everything = [value for points in drawn.values() for _, value in points]
    domain = [0, max(everything) * 1.08 or 1.0] if zero else padded(everything)
    logarithmic = logarithmic and is_wide(curves)
    if logarithmic:
        domain = [min(everything) * 0.96, max(everything) * 1.04]
    looks = [series(index) for index in range(len(drawn))]
    names = [str(seed) for seed in drawn]
    scale = {"domain": domain, "nice": False, "zero": False} | ({"type": "log"} if logarithmic else {})
    ticks = {"values": log_ticks(*domain), "format": "~g"} if logarithmic else {"tickCount": 5}
    last = max(points[-1][0] for points in drawn.values())
    x_axis = {"title": x, "tickCount": 5, "format": ",~d"}
    return specification(
        layer=[
            {
                "data": values(
                    {"seed": str(seed), "x": at, "y": value} for seed, points in drawn.items() for at, value in points
                ),
                "mark": {"type": "line", "strokeWidth": 1.3, "point": _points(drawn)},
                "encoding": {
                    "x": {
                        "field": "x",
                        "type": "quantitative",
                        "axis": x_axis,
                        "scale": {"domain": [0, last], "nice": False},
                    },
                    "y": {
                        "field": "y",
                        "type": "quantitative",
                        "axis": {**axis_title(unit), **ticks, "gridColor": GRID.light},
                        "scale": scale,
                    },
                    "color": _by_seed(names, [look[0] for look in looks]),
                    "strokeDash": _by_seed(names, [look[1] for look in looks]),
                },
            },
            names_at_the_end(names, [points[-1][1] for points in drawn.values()], domain, logarithmic),
        ]
    )


def _points(drawn: Curves) -> bool | dict[str, typing.Any]:
    """A line of few points shows them; of one there would be nothing else."""
    return {"size": 22} if max(len(points) for points in drawn.values()) <= 30 else False


def _by_seed(names: Sequence[str], look: Sequence[typing.Any]) -> dict[str, typing.Any]:
    return {
        "field": "seed",
        "type": "nominal",
        "scale": {"domain": list(names), "range": list(look)},
        "legend": None,
        "sort": None,
    }


def names_at_the_end(
    names: Sequence[str], ends: Sequence[float], domain: Sequence[float], logarithmic: bool = False
) -> Spec:
    """The name of each line right of its last point, apart from each other; a short stroke wears its dash."""
    if logarithmic:
        ends, domain = [math.log(one) for one in ends], [math.log(one) for one in domain]
    share = [(one - domain[0]) / (domain[1] - domain[0]) * HEIGHT for one in ends]
    apart = spread_out(share, [0, HEIGHT], HEIGHT)
    down = max(0.0, max(apart) - HEIGHT)
    up = max(0.0, 6 - (min(apart) - down))  # none beside the axis below
    places = [HEIGHT - (one - down + up) for one in apart]
    looks = [series(index) for index in range(len(names))]
    marks = []
    for name, place, (colour, dash, _) in zip(names, places, looks, strict=True):
        at: Spec = {"y": {"value": place}}
        stroke = {"type": "rule", "color": colour, "strokeDash": dash, "strokeWidth": 1.8}
        text = {"type": "text", "align": "left", "baseline": "middle", "text": name, "color": INK.light}
        marks.append(
            {"mark": stroke, "encoding": {**at, "x": {"value": WIDTH + 6}, "x2": {"value": WIDTH + 24}}},
        )
        marks.append({"mark": text, "encoding": {**at, "x": {"value": WIDTH + 29}}})
    return {"data": {"values": [{}]}, "layer": marks}
