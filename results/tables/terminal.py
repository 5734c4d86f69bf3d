"""Cells as text in columns, for a terminal of any width."""

import textwrap
from collections.abc import Collection, Sequence

from rich.cells import cell_len

GAP = "  "
NARROWEST = 12  # of a shortened word: less tells nobody which it is


def plain_table(cells: Sequence[Sequence[str]], width: int | None = None, left: Collection[int] = ()) -> str:
    """Columns aligned by spaces, the first and those of `left` to the left, the others to the right.

    In a narrow place headers are broken at their spaces, the first column is shortened in its middle, and what still
    has no room goes on below, with the first column again; where one column alone has none, all stand in lines.
    """
    whole = [[cell] for cell in cells[0]]
    if width is None or _room(cells, whole) <= width:
        return _block(cells, whole, left)
    most = max(NARROWEST, width * 2 // 5)
    rows = [cells[0], *([shortened(row[0], most), *row[1:]] for row in cells[1:])]
    heads = [_broken(cells[0][i], [row[i] for row in rows[1:]]) for i in range(len(cells[0]))]
    widths = _widths(rows, heads)
    if widths[0] + len(GAP) + max(widths[1:], default=0) > width:
        return _stacked(cells, width)
    blocks: list[list[int]] = [[0]]
    for i in range(1, len(widths)):
        if sum(widths[j] + len(GAP) for j in blocks[-1]) + widths[i] > width:
            blocks.append([0])
        blocks[-1].append(i)
    return "\n".join(
        _block(
            [[row[i] for i in block] for row in rows],
            [heads[i] for i in block],
            [block.index(i) for i in left if i in block],
        )
        for block in blocks
    )


def _stacked(cells: Sequence[Sequence[str]], width: int) -> str:
    """A row a paragraph, a line a cell."""
    deep = max(map(cell_len, cells[0])) + 2 * len(GAP)
    room = max(width, deep + NARROWEST)
    paragraphs = []
    for row in cells[1:]:
        lines = textwrap.wrap(row[0], room) or [""]
        for name, cell in zip(cells[0][1:], row[1:], strict=True):
            start = GAP + _padded(name, deep - len(GAP), left=True)
            lines += textwrap.wrap(
                cell, room, initial_indent=start, subsequent_indent=" " * deep, break_on_hyphens=False
            ) or [start.rstrip()]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs) + "\n"


def _broken(header: str, column: Sequence[str]) -> list[str]:
    """A header in as many lines as it takes to be no wider than what stands under it, if its words are not."""
    room = max([1, *map(cell_len, [*column, *header.split()])])
    return textwrap.wrap(header, room) or [""]


def _room(cells: Sequence[Sequence[str]], heads: Sequence[Sequence[str]]) -> int:
    return sum(_widths(cells, heads)) + len(GAP) * (len(heads) - 1)


def _widths(cells: Sequence[Sequence[str]], heads: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, [*head, *(row[i] for row in cells[1:])])) for i, head in enumerate(heads)]


def _block(cells: Sequence[Sequence[str]], heads: Sequence[Sequence[str]], left: Collection[int]) -> str:
    """`heads` has the lines of each column's header, which end at the bottom."""
    deep = max(map(len, heads))
    lines = [[["", *head][max(0, i - deep + len(head) + 1)] for head in heads] for i in range(deep)]
    widths = _widths(cells, heads)
    rows = (
        GAP.join(_padded(cell, widths[i], i == 0 or i in left) for i, cell in enumerate(row))
        for row in [*lines, *cells[1:]]
    )
    return "\n".join(row.rstrip() for row in rows) + "\n"


def _padded(cell: str, width: int, left: bool) -> str:
    space = " " * (width - cell_len(cell))
    return cell + space if left else space + cell


def shortened(text: str, most: int) -> str:
    """Names differ at both ends, so that the middle goes.

    >>> shortened("int6_ablation.steps_mixed", 15)
    'int6_ab…s_mixed'
    """
    if cell_len(text) <= most:
        return text
    half = (most - 1) // 2
    return (
        f"{text[: most - 1 - half]}…{text[-half:]}" if text.isascii() else f"{text[: half // 2]}…{text[-(half // 2) :]}"
    )
