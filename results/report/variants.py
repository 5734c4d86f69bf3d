"""Charts of several submissions side by side: losses in small multiples, step times in rows."""

import typing
from collections.abc import Sequence

from results.report.chart import WIDTH, Absent, Chart, Spec, log_ticks, specification, thinned, values
from results.report.subject import Subject
from results.report.theme import ACCENT, GRID, INK, MUTED, series

POINTS = 60  # of a line in a small multiple
COLUMNS = 3
PANEL_WIDTH, PANEL_HEIGHT = 124, 74
ROW_HEIGHT = 22


def losses_chart(subjects: Sequence[Subject]) -> Chart | Absent:
    """One panel a submission, a line a seed, the first submission behind each in grey."""
    title = "Training loss, variant by variant"
    known = [one for one in subjects if any(trace.loss for trace in one.traces.values())]
    if not known:
        return Absent("loss", title, "the counted runs noted no training loss.")
    rows: list[dict[str, typing.Any]] = []
    behind: list[dict[str, typing.Any]] = []
    base = next(thinned(trace.loss, POINTS) for trace in known[0].traces.values() if trace.loss)
    for subject in known:
        for seed, trace in subject.traces.items():
            rows += [
                {"variant": subject.label, "seed": str(seed), "x": x, "y": y} for x, y in thinned(trace.loss, POINTS)
            ]
        behind += [{"variant": subject.label, "x": x, "y": y} for x, y in base]
    labels = [one.label for one in known]
    final = [(one.label, [trace.loss[-1][1] for trace in one.traces.values() if trace.loss]) for one in known]
    return Chart(
        name="loss",
        title=title,
        caption="Nats per token of the training batch by step, logarithmic, a line a seed; behind each, in grey, one "
        f"seed of {known[0].label}. At most {POINTS} points a line are drawn: lowest and highest of each stretch.",
        alternative="Last noted loss: "
        + "; ".join(f"{label} {', '.join(f'{one:.3f}' for one in ends)}" for label, ends in final)
        + ".",
        columns=("Variant", "Last noted loss of each seed"),
        rows=tuple((label, ", ".join(f"{one:.4f}" for one in ends)) for label, ends in final),
        spec=specification(
            data=values([*({**row, "seed": None} for row in behind), *rows]),
            facet={
                "field": "variant",
                "type": "nominal",
                "sort": labels,
                "header": {
                    "title": None,
                    "labelExpr": "split(datum.label, ' ')",  # an override a line
                    "labelFontSize": 11,
                    "labelLimit": PANEL_WIDTH + 14,
                    "labelColor": INK.light,
                },
            },
            columns=COLUMNS,
            spacing=14,
            spec=_loss_panel([row["y"] for row in rows]),
        ),
    )


def _loss_panel(losses: Sequence[float]) -> Spec:
    """A line a seed; behind them the one without a seed, in grey. All panels have one scale."""
    lowest, highest = min(losses), max(losses)
    domain = [lowest * 0.96, highest * 1.04]
    axes = {
        "x": {
            "field": "x",
            "type": "quantitative",
            "axis": {"title": None, "tickCount": 2, "format": "~s", "labelFlush": True},
        },
        "y": {
            "field": "y",
            "type": "quantitative",
            "scale": {"type": "log", "domain": domain, "nice": False},
            "axis": {"title": None, "values": log_ticks(*domain)[::2], "format": "~g", "gridColor": GRID.light},
        },
    }
    return {
        "width": PANEL_WIDTH,
        "height": PANEL_HEIGHT,
        "layer": [
            {
                "mark": {"type": "line", "strokeWidth": 2.4, "color": GRID.light},
                "transform": [{"filter": "datum.seed === null"}],
                "encoding": axes,
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.1, "color": ACCENT.light},
                "transform": [{"filter": "datum.seed !== null"}],
                "encoding": axes | {"detail": {"field": "seed"}},
            },
        ],
    }


def step_times_chart(subjects: Sequence[Subject]) -> Chart | Absent:
    title = "Step time, variant by variant"
    rows = [
        {"variant": one.label, "seed": str(row.seed), "x": row.step_avg_ms, "steps": row.steps}
        for one in subjects
        for row in one.counted
        if row.step_avg_ms is not None
    ]
    if not rows:
        return Absent("step_time", title, "the counted runs told no step time.")
    seeds = list(dict.fromkeys(str(row["seed"]) for row in rows))
    looks = [series(index) for index in range(len(seeds))]
    longest = max(len(one.label) for one in subjects)
    told = [(one.label, [row for row in rows if row["variant"] == one.label]) for one in subjects]

    def by(place: int) -> dict[str, object]:
        scale = {"domain": seeds, "range": [look[place] for look in looks]}
        return {"field": "seed", "type": "nominal", "scale": scale, "legend": {"title": "seed"}}

    return Chart(
        name="step_time",
        title=title,
        caption="Average milliseconds a step by the trainer's clock, a point a seed; from zero. Under a limit of "
        "seconds, a slower step costs steps.",
        alternative="; ".join(
            f"{label} " + ", ".join(f"{row['x']:.1f}" for row in some) + " ms" for label, some in told if some
        )
        + ".",
        columns=("Variant", "Milliseconds a step, by seed", "Steps, by seed"),
        rows=tuple(
            (label, ", ".join(f"{row['x']:.2f}" for row in some), ", ".join(str(row["steps"]) for row in some))
            for label, some in told
            if some
        ),
        spec=specification(
            width=max(180, WIDTH - min(7 * longest, 270)),
            height=ROW_HEIGHT * len({row["variant"] for row in rows}),
            data=values(rows),
            mark={"type": "point", "filled": True, "size": 48, "opacity": 0.9},
            encoding={
                "x": {
                    "field": "x",
                    "type": "quantitative",
                    "scale": {"zero": True},
                    "axis": {"title": "milliseconds a step", "tickCount": 5},
                },
                "y": {
                    "field": "variant",
                    "type": "nominal",
                    "sort": None,
                    "axis": {
                        "title": None,
                        "labelLimit": 270,
                        "labelColor": INK.light,
                        "grid": True,
                        "gridColor": GRID.light,
                        "titleColor": MUTED.light,
                    },
                },
                "color": by(0),
                "shape": by(2),
            },
        ),
    )
