"""From a specification to a picture: SVG for the page, SVG and PNG files for a README. Nothing is fetched."""

import re
import struct
import zlib
from pathlib import Path

from golf_core.rundir import write_bytes
from results.report.chart import Chart
from results.report.theme import exchange_in_file

VEGA_LITE = "6.1"
PNG_SCALE = 2.0
PAGE_FONT_SIZE = 15.0  # pixels of a chart to one rem of the page: its type comes out a little under the text's
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def svg_of(chart: Chart) -> str:
    import vl_convert

    return str(vl_convert.vegalite_to_svg(chart.spec, vl_version=VEGA_LITE, allowed_base_urls=[]))


def inlined(svg: str, name: str, label_id: str) -> str:
    """An SVG as part of a page: of any width, its ids its own, one picture to a screen reader."""
    size = re.search(r'viewBox="0 0 (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)"', svg)
    if size is None:
        raise ValueError(f"the chart {name} was drawn without a viewBox: {svg[:200]}")
    body = svg[svg.index(">") + 1 :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'\bhref="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r' (?:role|aria-roledescription|aria-hidden|class)="[^"]*"', "", body)
    return (
        f'<svg role="img" aria-labelledby="{label_id}" viewBox="{size[0][9:-1]}" '
        f'style="width:{float(size[1]) / PAGE_FONT_SIZE:.3f}rem">{body}'
    )


def write_files(name: str, svg: str, folder: Path) -> list[Path]:
    """NAME.svg and NAME.png."""
    import vl_convert

    png = bytes(vl_convert.svg_to_png(svg, scale=PNG_SCALE))
    at = svg.index(">") + 1
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    write_bytes(paths[0], (svg[:at] + exchange_in_file() + svg[at:]).encode())
    write_bytes(paths[1], packed_png(png))
    return paths


def packed_png(data: bytes) -> bytes:
    """The same picture in fewer bytes: its pixels compressed again, thoroughly."""
    if not data.startswith(PNG_SIGNATURE):
        raise ValueError("no PNG")
    offset, head, pixels, tail = len(PNG_SIGNATURE), b"", b"", b""
    while offset < len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        kind, body = data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length]
        if kind == b"IDAT":
            pixels += body
        elif kind == b"IHDR":
            head = _chunk(kind, body)
        elif kind in (b"IEND", b"pHYs"):
            tail += _chunk(kind, body) if kind == b"IEND" else b""
            head += _chunk(kind, body) if kind == b"pHYs" else b""
        offset += 12 + length
    return PNG_SIGNATURE + head + _chunk(b"IDAT", zlib.compress(zlib.decompress(pixels), 9)) + tail


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
