"""Colours and type of charts and page, light and dark.

A chart is drawn once, in the light colours. Each colour has one meaning, so that a style sheet can exchange it for its
dark one by attribute: `svg [fill="#1d1c1a"]`. The same rules go into the page and into each SVG file.
"""

import typing
from dataclasses import dataclass

# Resolved on the reader's machine; nothing is fetched.
FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
FONT_SIZE = 13  # of a chart that is drawn as it is; on a phone it shrinks to about 10


@dataclass(frozen=True)
class Colour:
    name: str  # of the CSS variable
    light: str
    dark: str


PAPER = Colour("paper", "#fffefa", "#16181b")
INK = Colour("ink", "#1d1c1a", "#ecebe6")
MUTED = Colour("muted", "#5d5b55", "#adaba3")
GRID = Colour("grid", "#e5e3da", "#33363b")
AXIS = Colour("axis", "#8f8d85", "#7c7f84")
CAP = Colour("cap", "#b02318", "#ff8d80")
QUIET = Colour("quiet", "#c9c6bb", "#4c5057")  # bars that count for nothing
ACCENT = Colour("accent", "#1f5c99", "#7cb7f2")
# Told apart by dash, shape or label too; in this order they differ for the colour-blind as well.
SERIES = (
    Colour("series-1", "#1e5b98", "#7bb6f1"),
    Colour("series-2", "#b4480c", "#f19a5f"),
    Colour("series-3", "#1a7856", "#5ecb9c"),
    Colour("series-4", "#873d8c", "#d496d9"),
    Colour("series-5", "#776600", "#d3c052"),
    Colour("series-6", "#30697d", "#79c4dd"),
)
COLOURS = (PAPER, INK, MUTED, GRID, AXIS, CAP, QUIET, ACCENT, *SERIES)
DASHES = ([1, 0], [6, 3], [2, 2], [8, 2, 2, 2], [4, 4], [1, 3])
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


def series(index: int) -> tuple[str, list[int], str]:
    """Colour, dash and shape of the index-th thing that is shown. After six the colours come again with other dashes
    and shapes, so that 36 are told apart."""
    place = index % len(SERIES)
    shifted = (index + index // len(SERIES)) % len(SERIES)
    return SERIES[place].light, list(DASHES[shifted]), SHAPES[shifted]


def page_variables() -> str:
    """`--ink: light-dark(#1d1c1a, #ecebe6);` and so on."""
    return "".join(f"--{one.name}:light-dark({one.light},{one.dark});" for one in COLOURS)


def exchange_in_page() -> str:
    """Rules that give an inlined chart the page's colours."""
    return "".join(
        f'svg [fill="{one.light}"]{{fill:var(--{one.name})}}svg [stroke="{one.light}"]{{stroke:var(--{one.name})}}'
        for one in COLOURS
    )


def exchange_in_file() -> str:
    """The style of an SVG file that stands alone: dark where its reader's system is."""
    rules = "".join(
        f'[fill="{one.light}"]{{fill:{one.dark}}}[stroke="{one.light}"]{{stroke:{one.dark}}}' for one in COLOURS
    )
    return f"<style>@media (prefers-color-scheme:dark){{{rules}}}</style>"


def vega_config() -> dict[str, typing.Any]:
    """What every specification shares: little ink that is no data."""
    text = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": FONT_SIZE, "titleFontSize": FONT_SIZE}
    axis = {
        **text,
        "labelColor": MUTED.light,
        "titleColor": MUTED.light,
        "titleFontWeight": "normal",
        "domainColor": AXIS.light,
        "tickColor": AXIS.light,
        "gridColor": GRID.light,
        "tickSize": 4,
        "labelPadding": 4,
        "titlePadding": 8,
        "labelFlush": False,
    }
    return {
        "aria": False,  # the figure has its own text alternative
        "background": PAPER.light,
        "font": FONT,
        "padding": 4,
        "view": {"stroke": None},
        "axis": axis,
        "axisY": {"domain": False, "ticks": False, "titleAnchor": "end", "titleAlign": "left", "titleAngle": 0},
        "axisX": {"grid": False},
        "header": {
            **text,
            "labelColor": INK.light,
            "titleColor": MUTED.light,
            "labelAnchor": "start",
            "labelPadding": 4,
        },
        "legend": {
            **text,
            "labelColor": INK.light,
            "titleColor": MUTED.light,
            "titleFontWeight": "normal",
            "orient": "top",
            "symbolStrokeWidth": 2,
        },
        "text": {"font": FONT, "fontSize": FONT_SIZE, "color": INK.light},
        "rule": {"color": AXIS.light},
        "line": {"strokeWidth": 1.6, "strokeCap": "round"},
    }
