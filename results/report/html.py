"""HTML from values: everything that is text is escaped here, once."""

import html
from collections.abc import Sequence

VOID = {"meta", "br", "hr", "col"}


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(value: object) -> Markup:
    """
    >>> escaped("<b>"), escaped(Markup("<b>"))
    ('&lt;b&gt;', '<b>')
    """
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. `class_` and `for_` lose their line, `aria_label` becomes aria-label; True is an attribute without a
    value, None and False are left out.

    >>> tag("p", "a < b", class_="x", hidden=True)
    '<p class="x" hidden>a &lt; b</p>'
    """
    said = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        said += " " + key.rstrip("_").replace("_", "-")
        said += "" if value is True else f'="{escaped(value)}"'
    if name in VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{''.join(escaped(child) for child in children)}</{name}>")


def joined(parts: Sequence[object]) -> Markup:
    return Markup("".join(escaped(part) for part in parts))


def table(
    cells: Sequence[Sequence[object]], caption: str, *, hidden_caption: bool = False, numeric_from: int = 1
) -> Markup:
    """A table with a header row and a header column, in a frame that scrolls where the window is narrow."""
    head = tag("tr", *(tag("th", cell, scope="col", class_=_kind(i, numeric_from)) for i, cell in enumerate(cells[0])))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_=_kind(i, numeric_from)) for i, cell in enumerate(row[1:], 1)),
        )
        for row in cells[1:]
    ]
    inner = tag(
        "table",
        tag("caption", caption, class_="unseen" if hidden_caption else None),
        tag("thead", head),
        tag("tbody", *body),
    )
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _kind(index: int, numeric_from: int) -> str | None:
    return "number" if index >= numeric_from else None
