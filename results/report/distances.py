"""Charts of differences: variants against the first one, and the distance to a record. Only ever between scores of the
same text."""

import typing
from collections.abc import Sequence
from dataclasses import dataclass

from golf_core.frontier import Frontier, frontier_names, load_frontier
from golf_core.significance import NotTestable, Sample, sample_of, welch
from results.dataset import is_of_fineweb_size
from results.report.chart import WIDTH, Absent, Chart, Spec, padded, specification, values
from results.report.subject import Subject, same_text
from results.report.theme import ACCENT, AXIS, INK, MUTED, PAPER

ROW_HEIGHT = 26
NAMES_LIMIT = 270
RECORDS = 8  # rows of the leaderboard that one submission is held against, the best first


@dataclass(frozen=True)
class Difference:
    """Ours - theirs in BPB: negative is better. Without an interval where a side has one seed."""

    name: str
    n: int
    difference: float
    half_width: float | None
    p: float | None = None

    @property
    def is_clear(self) -> bool:
        """The 95 % interval leaves zero out."""
        return self.half_width is not None and abs(self.difference) > self.half_width

    @property
    def text(self) -> str:
        """
        >>> Difference("a", 3, -0.00123, 0.0004).text, Difference("a", 1, 0.001, None).text
        ('-0.00123 ± 0.00040', '+0.00100, no interval')
        """
        spread = ", no interval" if self.half_width is None else f" ± {self.half_width:.5f}"
        return f"{self.difference:+.5f}{spread}"


def difference(name: str, ours: Sample, theirs: Sample) -> Difference:
    """By Welch's test, which takes neither equal spread nor equal seeds."""
    try:
        found = welch(ours, theirs)
    except NotTestable:
        return Difference(name, ours.n, ours.mean - theirs.mean, None)
    return Difference(name, ours.n, found.difference, found.half_width, found.p)


def forest_chart(subjects: Sequence[Subject]) -> Chart | Absent:
    """Each variant against the first."""
    title = "Variants against the first"
    base = subjects[0]
    theirs = [bpb for _, bpb in base.claimed]
    if not theirs:
        return Absent("forest", title, f"{base.label} has no score to compare with.")
    same = [one for one in subjects[1:] if same_text(one, base)]
    found = [
        difference(one.label, sample_of([bpb for _, bpb in one.claimed]), sample_of(theirs))
        for one in same
        if one.claimed
    ]
    if not found:
        return Absent("forest", title, "no other submission has a score of the same data: nothing is comparable.")
    left_out = [one.label for one in subjects[1:] if one not in same]
    silent = [one.label for one in same if not one.claimed]
    caption = (
        f"Mean BPB less that of {base.label} (n={len(theirs)}, mean {sum(theirs) / len(theirs):.5f}), with the 95 % "
        "interval of Welch's test. Left of zero is better. Filled: the interval leaves zero out; hollow: not told "
        "apart."
    )
    caption += f" Other data, not comparable: {', '.join(left_out)}." if left_out else ""
    caption += f" Without a score: {', '.join(silent)}." if silent else ""
    if len(found) > 1:
        caption += f" {len(found)} comparisons: about one in twenty leaves zero out by chance."
    return Chart(
        name="forest",
        title=title,
        caption=caption,
        alternative="; ".join(f"{one.name} {one.text}" for one in found) + ".",
        columns=("Variant", "Seeds", "Difference, BPB", "95 % half width", "Interval leaves zero out"),
        rows=tuple(
            (
                one.name,
                str(one.n),
                f"{one.difference:+.8f}",
                "-" if one.half_width is None else f"{one.half_width:.8f}",
                "yes" if one.is_clear else "no",
            )
            for one in found
        ),
        spec=differences(found, f"bits per byte against {base.label}"),
    )


def record_chart(subjects: Sequence[Subject]) -> Chart | Absent:
    """One submission against the best rows of the leaderboard, or several against its best row. Only scores of text of
    the same size are held against it."""
    title = "Distance to the record"
    frontier = load_frontier(frontier_names()[-1])
    scored = [one for one in subjects if one.claimed]
    comparable = [one for one in scored if is_of_fineweb_size(one.found.rows)]
    if not scored:
        return Absent("record", title, "no seed has a score yet.")
    if not comparable and not any(row.val_tokens for one in scored for row in one.counted):
        return Absent(
            "record",
            title,
            f"the record's scores are of one text ({frontier.text}), and what these runs told does not say how much "
            "text they scored. A BPB compares only with others of the same text, so no distance is drawn.",
        )
    if not comparable:
        return Absent(
            "record",
            title,
            f"the record's scores are of another text ({frontier.text}). A BPB compares only with others of the same "
            "text, so no distance is drawn.",
        )
    found = _to_the_record(comparable, frontier)
    caption = (
        f"Our mean less theirs in BPB, with the 95 % interval of Welch's test; left of zero is better than they are. "
        f"Leaderboard as of {frontier.as_of}, {frontier.text}; our text has its size. Filled: the interval leaves zero "
        "out. A row of one seed, or of unknown spread, has no interval."
    )
    left_out = [one.label for one in scored if one not in comparable]
    caption += f" Other data, not comparable: {', '.join(left_out)}." if left_out else ""
    best = frontier.best.label
    return Chart(
        name="record",
        title=title,
        caption=caption,
        alternative=f"The best row is {best}. " + "; ".join(f"{one.name} {one.text}" for one in found) + ".",
        columns=("Against" if len(comparable) == 1 else "Ours", "Seeds", "Difference, BPB", "95 % half width"),
        rows=tuple(
            (
                one.name,
                str(one.n),
                f"{one.difference:+.8f}",
                "-" if one.half_width is None else f"{one.half_width:.8f}",
            )
            for one in found
        ),
        spec=differences(
            found, "bits per byte: ours less theirs" if len(comparable) == 1 else f"bits per byte against {best}"
        ),
    )


def _to_the_record(comparable: Sequence[Subject], frontier: Frontier) -> list[Difference]:
    ours = [sample_of([bpb for _, bpb in one.claimed]) for one in comparable]
    if len(comparable) > 1:
        return [difference(one.label, mine, frontier.best.sample) for one, mine in zip(comparable, ours, strict=True)]
    rows = sorted((row for row in frontier.rows if row.accepted), key=lambda row: row.sample.mean)[:RECORDS]
    return [difference(row.label, ours[0], row.sample) for row in rows]


def differences(found: Sequence[Difference], x_title: str) -> Spec:
    """A forest plot: a point and its interval a row, zero as the line that matters."""
    rows = [_row(one) for one in found]
    domain = padded([0.0, *(row[key] for row in rows for key in ("low", "high"))], 0.08)
    y = {
        "field": "name",
        "type": "nominal",
        "sort": None,
        "axis": {"title": None, "labelColor": INK.light, "labelLimit": NAMES_LIMIT, "ticks": False, "domain": False},
    }
    x = {
        "type": "quantitative",
        "scale": {"domain": domain, "nice": False, "zero": False},
        "axis": {
            "title": x_title,
            "tickCount": 4,
            "labelExpr": "datum.value == 0 ? '0' : format(datum.value, '+~g')",
            "titleLimit": 420,
        },
    }
    longest = max(len(one.name) for one in found)
    width = max(150, WIDTH - 60 - min(7 * longest, NAMES_LIMIT))
    point: dict[str, typing.Any] = {"type": "point", "size": 70, "opacity": 1, "strokeWidth": 1.8}
    return specification(
        width=width,
        height=ROW_HEIGHT * len(found),
        layer=[
            {
                "data": values([{"x": 0}]),
                "mark": {"type": "rule", "color": AXIS.light},
                "encoding": {"x": {"field": "x", **x}},
            },
            {
                "data": values(rows),
                "mark": {"type": "rule", "color": ACCENT.light, "strokeWidth": 1.6},
                "encoding": {"y": y, "x": {"field": "low", **x}, "x2": {"field": "high"}},
            },
            {
                "data": values(rows),
                "mark": {**point, "filled": False, "color": ACCENT.light},
                "encoding": {
                    "y": y,
                    "x": {"field": "x", **x},
                    "fill": {"condition": {"test": "datum.clear", "value": ACCENT.light}, "value": PAPER.light},
                },
            },
            {
                "data": values(rows),
                "mark": {"type": "text", "align": "left", "color": MUTED.light},
                "encoding": {"y": y, "x": {"value": width + 8}, "text": {"field": "text"}},
            },
        ],
    )


def _row(one: Difference) -> dict[str, typing.Any]:
    half = one.half_width or 0.0
    return {
        "name": one.name,
        "x": one.difference,
        "low": one.difference - half,
        "high": one.difference + half,
        "clear": one.is_clear,
        "text": one.text,
    }
