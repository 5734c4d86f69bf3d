"""Chart of the time budget: each stage's phases against the caps of the policy."""

import math
import typing
from collections.abc import Sequence

from results.phases import COUNTED
from results.report.chart import WIDTH, Absent, Chart, Spec, cap_line, specification, values
from results.report.subject import Subject
from results.report.theme import INK, QUIET, SERIES
from results.rows import Row

BAR_HEIGHT = 24
STAGES = (("train", "Training", "train_seconds"), ("evaluate", "Evaluation", "evaluate_seconds"))
UNCOUNTED = "not counted"
WHOLE = "evaluation"  # where nobody told its phases
Bar = dict[str, typing.Any]


def time_chart(subjects: Sequence[Subject]) -> Chart | Absent:
    """A bar a seed; where several submissions are shown, a bar for the slowest seed of each."""
    title = "Time against the caps"
    runs = [
        (f"seed {row.seed}" if len(subjects) == 1 else subject.label, subject, row)
        for subject in subjects
        for row in (subject.counted if len(subjects) == 1 else _slowest(subject))
    ]
    bars = {key: _bars(runs, key, column) for key, _, column in STAGES}
    if not any(bars.values()):
        return Absent("time", title, "no counted run told its times.")
    policy = subjects[0].found.spec.policy
    caps = {key: float(policy[column]) for key, _, column in STAGES}
    totals = [
        f"{name} {label.lower()} {seconds:.1f} s of {caps[key]:.0f}"
        for key, label, column in STAGES
        for name, _, row in runs
        if (seconds := getattr(row, column)) is not None
    ]
    which = "a bar a seed" if len(subjects) == 1 else "a bar a variant, its slowest seed"
    return Chart(
        name="time",
        title=title,
        caption=f"Seconds by the worker's clock, {which}. Coloured phases, in the order of the "
        "legend, count against the cap, grey ones do not "
        "(start, averaging, quantization, compression). The figure is the gate's: the larger of two clocks.",
        alternative="; ".join(totals[:16]) + ".",
        columns=("Stage", "Run", "Phase", "Seconds", "Counts"),
        rows=tuple(
            (label, bar["run"], name, f"{seconds:.3f}", "yes" if name in (*COUNTED[key], WHOLE) else "no")
            for key, label, _ in STAGES
            for bar in bars[key]
            for name, seconds in bar["phases"].items()
        ),
        spec=specification(
            vconcat=[_panel(label, bars[key], key, caps[key]) for key, label, _ in STAGES if bars[key]],
            resolve={"scale": {"color": "independent"}},
        ),
    )


def _slowest(subject: Subject) -> list[Row]:
    return sorted(subject.counted, key=lambda row: (row.train_seconds or 0) + (row.evaluate_seconds or 0))[-1:]


def _bars(runs: Sequence[tuple[str, Subject, Row]], stage: str, column: str) -> list[Bar]:
    """The phases of each run: as the worker stamped them, or the total alone where no phases were told."""
    found = []
    for name, subject, row in runs:
        total = getattr(row, column)
        phases = dict(subject.traces[row.seed].phases.get(stage, {}))
        if not any(phase in COUNTED[stage] for phase in phases) and total is not None:
            phases = {COUNTED[stage][0] if stage == "train" else WHOLE: total}
        if phases:
            found.append({"run": name, "phases": phases, "total": total})
    return found


def _panel(label: str, bars: Sequence[Bar], stage: str, cap: float) -> Spec:
    named = [phase for phase in COUNTED[stage] if any(phase in bar["phases"] for bar in bars)] or [WHOLE]
    segments, ends = _laid_out(bars, named)
    widest = max(cap, *(one["at"] for one in ends))
    phases = [*named, UNCOUNTED]
    colours = [*(SERIES[index % len(SERIES)].light for index in range(len(named))), QUIET.light]
    y = {
        "field": "run",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "labelColor": INK.light, "labelLimit": 270, "ticks": False, "domain": False},
        "scale": {"paddingInner": 0.35},
    }
    x = {
        "type": "quantitative",
        "scale": {"domain": [0, widest * 1.02], "nice": False},
        "axis": {"title": "seconds", "tickCount": 6},
    }
    colour = {
        "field": "phase",
        "type": "nominal",
        "sort": None,
        "scale": {"domain": phases, "range": colours},
        "legend": {"title": f"{label}:", "orient": "top", "titleOrient": "left", "symbolType": "square", "columns": 3},
    }
    return {
        "width": max(190, WIDTH - min(6 * max(len(bar["run"]) for bar in bars), 190)),
        "height": BAR_HEIGHT * len(bars),
        "layer": [
            {
                "data": values(segments),
                "mark": {"type": "bar"},
                "encoding": {"y": y, "x": {"field": "from", **x}, "x2": {"field": "to"}, "color": colour},
            },
            {
                "data": values(ends),
                "mark": {"type": "text", "align": "left", "dx": 5, "color": INK.light},
                "encoding": {"y": y, "x": {"field": "at", **x}, "text": {"field": "text"}},
            },
            *cap_line(cap, f"cap {cap:.0f} s", x, dx=2),
        ],
    }


def _laid_out(
    bars: Sequence[Bar], named: Sequence[str]
) -> tuple[list[dict[str, typing.Any]], list[dict[str, typing.Any]]]:
    """The phases of each bar one after another, those that no cap counts last; and where each bar ends."""
    segments, ends = [], []
    for bar in bars:
        at = 0.0
        for phase in named:
            seconds = bar["phases"].get(phase, 0.0)
            segments.append({"run": bar["run"], "phase": phase, "from": at, "to": at + seconds})
            at += seconds
        rest = math.fsum(seconds for phase, seconds in bar["phases"].items() if phase not in named)
        segments.append({"run": bar["run"], "phase": UNCOUNTED, "from": at, "to": at + rest})
        said = "" if bar["total"] is None else f"{bar['total']:.1f} s"
        ends.append({"run": bar["run"], "at": at + rest, "text": said})
    return segments, ends
