"""What charts are made of: traces, thinned curves, artifact bytes, places of labels, valid specifications."""

import itertools
import json
import math
import re
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.rundir import METRICS, RunDirError, write_seal
from results.dataset import EMBEDDED_SHA256
from results.report.chart import Chart, log_ticks, spread_out, thinned
from results.report.compressors import STORED, compressor_lines
from results.report.draw import packed_png, svg_of
from results.report.make import charts_of
from results.report.theme import COLOURS, INK, MUTED, PAPER, exchange_in_page
from results.report.traces import trace_of
from results.report.training import lines
from results.report.weights import parts_of_artifact
from tests.results.hostile import ANY_JSON
from tests.results.report.samples import artifact, events, phases, subjects_of, submission, variants

POINTS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300).map(lambda ys: list(enumerate(ys)))


def write_trace(folder, lines, told=(), targets=None):
    (folder / METRICS).write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    (folder / "phases.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in told), encoding="utf-8")
    return trace_of(folder, 1, (METRICS, "phases.jsonl"), targets)


@given(POINTS, st.integers(2, 60))
def test_thinning_keeps_every_extreme_and_the_order(points, limit):
    """At most `limit` points of the curve are left, in order, with the lowest and the highest among them."""
    found = thinned(points, limit)
    assert len(found) <= max(limit, 2) and found == sorted(found) and set(found) <= set(points)
    ys = [y for _, y in points]
    assert {min(ys), max(ys)} <= {y for _, y in found}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12), st.floats(1, 30))
def test_labels_never_touch_and_keep_their_order(places, gap):
    """Labels are at least `gap` pixels apart, in the order of what they name, and no farther than they must be."""
    found = spread_out(places, [0.0, 100.0], height=100, gap=gap)
    order = sorted(range(len(places)), key=lambda index: places[index])
    ranked = [found[index] for index in order]
    assert all(b - a >= gap - 1e-6 for a, b in itertools.pairwise(ranked))
    assert sum(found) == pytest.approx(sum(places), abs=1e-6 * len(places) + 1e-6)


@given(st.floats(0.01, 1e4), st.floats(1.05, 1e4))
def test_log_ticks_lie_in_their_domain(low, ratio):
    """At most eight ticks, rising, none outside."""
    found = log_ticks(low, low * ratio)
    assert len(found) <= 8 and found == sorted(set(found)) and all(low <= one <= low * ratio for one in found)


def test_a_trace_is_what_the_run_noted(tmp_path):
    """Losses, step times, the gain of each part and so far, and phases with the rest of each stage."""
    found = write_trace(tmp_path, events(7), phases())
    assert len(found.loss) == 30 and found.loss[-1][0] == 600
    assert all(80 < ms < 100 for _, ms in found.step_ms)
    told = {one["stage"]: one for one in events(7) if one["event"] == "score_parts"}
    whole = (sum(told["ttt"]["nats"]) - sum(told["sliding"]["nats"])) / math.log(2) / sum(told["ttt"]["bytes"])
    assert found.gain[-1][2] == pytest.approx(whole) and [end for end, *_ in found.gain[:3]] == [4096, 8192, 12288]
    assert found.phases["evaluate"] == pytest.approx(
        {"load": 1.0, "roundtrip": 2.0, "sliding": 4.0, "ttt": 14.0, "start and end": 1.5}
    )


@given(
    st.lists(st.tuples(st.floats(1, 1e4), st.floats(1, 1e4), st.integers(1, 10_000)), min_size=1, max_size=12),
    st.integers(1, 4096),
)
def test_a_running_gain_stands_where_its_tokens_end(scratch, parts, last):
    """After so many targets the sum is of exactly these, the last part's with what is left of it."""
    targets = (len(parts) - 1) * 4096 + last
    notes = [
        {"event": "score_parts", "stage": stage, "part": 4096, "nats": [one[at] for one in parts], "bytes": text}
        for at, stage in enumerate(("sliding", "ttt"))
        for text in [[one[2] for one in parts]]
    ]
    found = write_trace(scratch, notes, [], targets)
    assert [end for end, *_ in found.gain] == [*range(4096, targets, 4096), targets]
    for end, _, so_far in found.gain:
        scored = parts[: -(-end // 4096)]
        gained = sum(after - before for before, after, _ in scored) / math.log(2) / sum(text for *_, text in scored)
        assert so_far == pytest.approx(gained, abs=1e-9)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@settings(max_examples=80)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"event": st.sampled_from(["step", "val", "eval", "score_parts", "x"])},
            optional={
                key: ANY_JSON
                for key in ("step", "loss", "elapsed_s", "val_bpb", "stage", "done", "bpb", "part", "nats", "bytes")
            },
        ),
        max_size=8,
    ),
    st.lists(st.dictionaries(st.sampled_from(["stage", "phase", "edge", "t"]), ANY_JSON), max_size=6),
)
def test_any_notes_give_finite_rising_points(scratch, lines, told):
    """Whatever stands in both files, nothing raises and no point is NaN, infinite or out of order."""
    found = write_trace(scratch, lines, told)
    for points in (found.loss, found.val, found.running, found.elapsed, found.step_ms):
        assert all(math.isfinite(number) for point in points for number in point)
        assert [x for x, _ in points] == sorted({x for x, _ in points})
    assert all(math.isfinite(number) for part in found.gain for number in part)
    assert all(0 <= seconds < math.inf for stage in found.phases.values() for seconds in stage.values())


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=4), st.sampled_from([0.0, 1e-9, 1.0]))
def test_any_curve_can_be_drawn(ends, slope):
    """Flat, zero, huge or of one point: the specification has a domain that holds the points and is no point itself."""
    curves = {seed: [(float(step), end + slope * step) for step in range(1 + seed)] for seed, end in enumerate(ends)}
    for kind in ({}, {"logarithmic": True}, {"zero": True}):
        spec = lines(curves, "units", **kind)
        low, high = spec["layer"][0]["encoding"]["y"]["scale"]["domain"]
        drawn = [one["y"] for one in spec["layer"][0]["data"]["values"]]
        assert low < high and low <= min(drawn) and max(drawn) <= high
        assert json.dumps(spec, allow_nan=False)


def test_the_parts_of_an_artifact_sum_to_its_size(tmp_path):
    """Every group of tensors has its share, and the file's own size is what they sum to."""
    (tmp_path / "artifact.bin").write_bytes(data := artifact())
    parts = dict(parts_of_artifact(tmp_path / "artifact.bin"))
    assert set(parts) == {"token embedding", "attention", "MLP", "scales and other tensors"}
    assert sum(parts.values()) == pytest.approx(len(data)) and min(parts.values()) > 0
    assert max(parts, key=lambda name: parts[name]) == "token embedding"


@settings(max_examples=120)
@given(st.data())
def test_a_damaged_artifact_is_refused_clearly(scratch, data):
    """Cut, flipped or with another table: it is read, or RunDirError names the file; nothing else."""
    path = scratch / "artifact.bin"
    content = bytearray(artifact())
    if data.draw(st.booleans()):
        entry = data.draw(st.dictionaries(st.sampled_from(["name", "route", "shape", "bits", "group_rows"]), ANY_JSON))
        head = json.dumps(
            data.draw(st.sampled_from([[entry], entry, [entry["name"]] if "name" in entry else 3]))
        ).encode()
        body = zlib.compress(payload := struct.pack("<I", len(head)) + head + bytes(40))
        content = bytearray(struct.pack("<8s8sQ16s", b"GOLFART1", b"zlib", len(payload), bytes(16)) + body)
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(content)
    try:
        assert sum(size for _, size in parts_of_artifact(path)) == pytest.approx(len(content))
    except RunDirError as error:
        assert str(path) in str(error)


def test_a_bomb_is_not_unpacked(tmp_path):
    """An artifact that claims gigabytes, or unpacks to more than it claims, is refused."""
    path = tmp_path / "artifact.bin"
    for claimed in (1 << 40, 100):
        body = zlib.compress(bytes(50_000_000))
        path.write_bytes(struct.pack("<8s8sQ16s", b"GOLFART1", b"zlib", claimed, bytes(16)) + body)
        with pytest.raises(RunDirError, match=r"claims|header says"):
            parts_of_artifact(path)


def test_long_runs_are_thinned_and_the_caption_says_so(tmp_path):
    """20,000 noted steps a seed are drawn with 300 points a line; the spike among them is kept."""
    runs = submission(tmp_path, seeds=(1, 2))
    folder = runs.attempt_folder(1)
    long = events(1, steps=20_000, log_every=1)
    long[12_345 + 1]["loss"] = 9.75
    (folder / METRICS).write_text(
        "".join(json.dumps(one) + "\n" for one in [*long, {"event": "train_end", **runs.train_end()}])
    )
    files = json.loads((folder / "MANIFEST.json").read_text())["files"]
    write_seal(folder, "MANIFEST.json", files, {"run_id": runs.run_ids[1], "attempt_id": folder.name, "seed": 1})
    (chart,) = [one for one in charts_of(subjects_of(runs)) if one.name == "loss"]
    points = chart.spec["layer"][0]["data"]["values"]
    assert len([one for one in points if one["seed"] == "1"]) <= 300
    assert max(one["y"] for one in points) == 9.75
    assert "Of 20,000 noted points at most 300 are drawn" in chart.caption
    assert len(svg_of(chart)) < 100_000


def shortened(spec):
    """The same with a row or two of data: the schema says nothing of how many."""
    if isinstance(spec, dict):
        return {key: value[:2] if key == "values" else shortened(value) for key, value in spec.items()}
    return [shortened(one) for one in spec] if isinstance(spec, list) else spec


def test_every_specification_is_valid_vega_lite_without_nan(tmp_path):
    """The charts of one submission and of several follow the schema, and are plain JSON."""
    import altair

    one = charts_of(subjects_of(submission(tmp_path / "one", fineweb=True, bpb=1.06)))
    several = charts_of(subjects_of(*variants(tmp_path / "several", 3)))
    drawn = [chart for chart in (*one, *several) if isinstance(chart, Chart)]
    assert len(drawn) == 14
    for chart in drawn:
        text = json.dumps(chart.spec, allow_nan=False)
        altair.Chart.from_dict(shortened(json.loads(text)), validate=True)
        assert "http" not in text.replace("https://vega.github.io/schema", "")


def test_every_colour_of_a_chart_has_its_dark_one(tmp_path):
    """Whatever colour is in a drawing is one that the page exchanges, so that none stays light in the dark."""
    known = {one.light for one in COLOURS}
    rules = exchange_in_page()
    for chart in charts_of(subjects_of(submission(tmp_path))):
        if isinstance(chart, Chart):
            used = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg_of(chart))) - {"none", "transparent"}
            assert used <= known, (chart.name, used - known)
            assert all(f'[fill="{colour}"]' in rules for colour in used)


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_text_and_lines_stand_out_from_the_paper():
    """In both schemes text has a contrast of 4.5 and every line, bar or point of data one of 3."""
    for scheme in ("light", "dark"):
        paper = getattr(PAPER, scheme)
        for one in COLOURS:
            if one in (INK, MUTED) or one.name in ("cap", "accent") or one.name.startswith("series"):
                wanted = 4.5
            else:
                wanted = 3.0 if one.name == "axis" else 0.0  # the grid and what counts for nothing may be faint
            assert contrast(getattr(one, scheme), paper) >= wanted, (one.name, scheme)


def test_labels_stay_short_and_apart(tmp_path):
    """Names of submissions in charts are cut, and where that makes two equal each has its id."""
    runs = [submission(tmp_path, code=f"A = {i}\n", overrides=(f"k={'9' * 500}{i}",), seeds=(1,)) for i in range(3)]
    names = [one.label for one in subjects_of(*runs)]
    assert len(set(names)) == 3 and max(map(len, names)) < 80


def test_compressors_are_of_the_embedded_text_alone():
    """The stored figures are bits per byte that follow from their sizes, and belong to one text."""
    found = compressor_lines(EMBEDDED_SHA256)
    assert [name for name, *_ in found][-1] == "bzip2 -9" and all(1 < b <= a < 8 for _, a, b in found)
    told = json.loads(STORED.read_text())
    sizes = {8 * row["alone_bytes"] / row["alone_bpb"] for row in told["compressors"]}
    assert max(sizes) == pytest.approx(min(sizes)) and compressor_lines("0" * 64) == []


def test_a_packed_png_is_the_same_picture(tmp_path):
    """Its pixels decompress to the same bytes, its size is no larger."""
    import vl_convert

    (chart,) = [one for one in charts_of(subjects_of(submission(tmp_path))) if one.name == "parts"]
    png = bytes(vl_convert.svg_to_png(svg_of(chart)))
    packed = packed_png(png)

    def pixels(data):
        found, offset = b"", 8
        while offset < len(data):
            (length,) = struct.unpack_from(">I", data, offset)
            body = data[offset + 8 : offset + 8 + length]
            assert struct.unpack_from(">I", data, offset + 8 + length)[0] == zlib.crc32(
                data[offset + 4 : offset + 8] + body
            )
            found += body if data[offset + 4 : offset + 8] == b"IDAT" else b""
            offset += 12 + length
        return zlib.decompress(found)

    assert pixels(packed) == pixels(png) and len(packed) <= len(png)
