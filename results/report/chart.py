"""A chart: one Vega-Lite specification, and the same in words and as a table for whoever does not see it."""

import math
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from results.report.theme import CAP, vega_config

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"  # its name; nothing is fetched
WIDTH = 340  # of the plot; with labels a chart is about 430 wide
HEIGHT = 205
Spec = dict[str, typing.Any]


@dataclass(frozen=True)
class Chart:
    name: str  # of its files
    title: str
    caption: str  # what is drawn, in which unit, and what was left out
    alternative: str  # what one would say to somebody on the telephone
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    spec: Spec

    def to_dict(self) -> dict[str, typing.Any]:
        """For JSON: everything but the drawing."""
        return {
            "name": self.name,
            "title": self.title,
            "caption": self.caption,
            "alternative": self.alternative,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
        }


@dataclass(frozen=True)
class Absent:
    """A chart that cannot be drawn, and why."""

    name: str
    title: str
    reason: str

    def to_dict(self) -> dict[str, typing.Any]:
        return {"name": self.name, "title": self.title, "absent": self.reason}


def specification(**parts: typing.Any) -> Spec:
    """A whole one; one plot has the usual size, several say their own."""
    size = {} if {"vconcat", "facet"} & set(parts) else {"width": WIDTH, "height": HEIGHT}
    return {"$schema": SCHEMA, **size, "config": vega_config(), **parts}


def values(rows: Iterable[typing.Mapping[str, typing.Any]]) -> dict[str, typing.Any]:
    return {"values": [dict(row) for row in rows]}


def cap_line(cap: float, text: str, x: Spec, dx: int) -> list[Spec]:
    """A vertical line where a cap is, and its name beside the upper end."""
    data = values([{"cap": cap}])
    place = {"field": "cap", **x}
    named = {"type": "text", "align": "right", "baseline": "bottom", "dx": dx, "dy": -3}
    return [
        {
            "data": data,
            "mark": {"type": "rule", "color": CAP.light, "strokeWidth": 1.6},
            "encoding": {"x": place},
        },
        {
            "data": data,
            "mark": {**named, "color": CAP.light, "text": text},
            "encoding": {"x": place, "y": {"value": 0}},
        },
    ]


def axis_title(text: str, **more: typing.Any) -> dict[str, typing.Any]:
    """A title over the vertical axis, where it is read without turning the head."""
    return {"title": text, "titleX": 0, "titleY": -10, "titleBaseline": "bottom", **more}


def padded(numbers: Sequence[float], share: float = 0.06) -> list[float]:
    """A domain around the numbers, never empty.

    >>> padded([1.0, 2.0], 0.1)
    [0.9, 2.1]
    """
    low, high = min(numbers), max(numbers)
    room = (high - low) * share or abs(high) * 0.01 or 1.0
    return [low - room, high + room]


def spread_out(
    places: Sequence[float], domain: Sequence[float], height: float = HEIGHT, gap: float = 15
) -> list[float]:
    """Places for labels beside `places`, in the same order and unit, at least `gap` pixels apart.

    >>> spread_out([1.0, 1.0], [0.0, 2.0], height=100, gap=10)
    [0.9, 1.1]
    """
    unit = (domain[1] - domain[0]) / height
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[float]] = []  # [sum of wanted first places, members]
    for rank, index in enumerate(order):
        groups.append([places[index] / unit - rank * gap, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] > groups[-1][0] / groups[-1][1]:
            last = groups.pop()
            groups[-1] = [groups[-1][0] + last[0], groups[-1][1] + last[1]]
    means = [total / count for total, count in groups for _ in range(int(count))]
    found = [0.0] * len(places)
    for rank, index in enumerate(order):
        found[index] = round((means[rank] + rank * gap) * unit, 12)
    return found


def thinned(points: Sequence[tuple[float, float]], limit: int) -> list[tuple[float, float]]:
    """At most `limit` points: of each of limit / 2 equal stretches the lowest and the highest, as they come.

    >>> thinned([(0, 5.0), (1, 1.0), (2, 9.0), (3, 4.0), (4, 4.0), (5, 4.0)], 4)
    [(1, 1.0), (2, 9.0), (3, 4.0)]
    """
    if len(points) <= limit:
        return list(points)
    stretches = max(limit // 2, 1)
    found: list[tuple[float, float]] = []
    for number in range(stretches):
        part = points[len(points) * number // stretches : len(points) * (number + 1) // stretches]
        ends = {min(range(len(part)), key=lambda i: part[i][1]), max(range(len(part)), key=lambda i: part[i][1])}
        found += [part[index] for index in sorted(ends)]
    return found


def every(count: int, wanted: int) -> list[int]:
    """At most `wanted` indices, evenly over `count`, the first and the last among them.

    >>> every(5, 3), every(2, 10)
    ([0, 2, 4], [0, 1])
    """
    if count <= wanted:
        return list(range(count))
    return sorted({round(index * (count - 1) / (wanted - 1)) for index in range(wanted)})


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, few enough to be read on a logarithmic axis.

    >>> log_ticks(2.9, 12.6)
    [3, 4, 5, 6, 8, 10, 12]
    """
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [round(step * 10**power, 9) for power in powers for step in steps if low <= step * 10**power <= high]
    found = [int(one) if one == int(one) else one for one in found]
    return found if len(found) <= 8 else [found[index] for index in every(len(found), 6)]
