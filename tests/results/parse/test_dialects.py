"""Every dialect is read in full, whatever surrounds it."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.parse import lines as reading
from results.parse.reader import parse_stream
from results.parse.run import MEASURED
from tests.results.parse import logs
from tests.results.parse.logs import Truth, written

DIALECTS = {
    "old": logs.old(),
    "old_without_source": logs.old(source=False),
    "new": logs.new(),
    "new_without_source": logs.new(source=False),
    "unix_time": logs.stamped(logs.new(source=False)),
}


def parse(lines, **options):
    return parse_stream(io.BytesIO(written(lines)), "a.log", **options)


def one(lines):
    runs = parse(lines)
    assert len(runs) == 1
    return runs[0]


@pytest.mark.parametrize("lines", DIALECTS.values(), ids=DIALECTS)
def test_every_field_of_a_dialect_is_right(lines):
    """All values are those that the log was made with, and each has a line that holds it."""
    run = one(lines)
    expected = Truth().expected()
    if "total_eval_time" in lines[-1]:
        expected["eval_time_s"] = 410.3
    if not any("step_avg" in line for line in lines):
        expected["step_avg_ms"] = round(600128 / 7179, 2)
    assert {name: getattr(run, name) for name in expected} == expected
    assert set(run.evidence) == set(MEASURED) and not run.reasons
    for name in ("seed", "final_bpb", "artifact_bytes", "steps"):
        evidence = run.evidence[name]
        assert evidence.text in lines[evidence.line - 1] and str(expected[name]) in evidence.text


def test_pairs_are_read():
    """A log of `k=v` lines gives the same numbers, without what it does not state."""
    run, expected = one(logs.pairs()), Truth().expected()
    unstated = {"gpu", "ttt_loop_s", "pre_quant_bpb"}  # of the raw weights there is the last step alone
    for name in expected.keys() - unstated:
        assert getattr(run, name) == expected[name], name
    assert run.gpu is None and run.reasons["gpu"]
    assert run.pre_quant_bpb == 1.1384


@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(600, 20000),
    bpb=st.tuples(*[st.integers(10**7, 3 * 10**8)] * 3),
    model=st.integers(10**6, 10**8),
    code=st.integers(10**3, 10**6),
    dialect=st.sampled_from([logs.old, logs.new]),
)
def test_any_values_come_back(seed, steps, bpb, model, code, dialect):
    """What is printed is read, for any numbers, as long as each stage improves on the one before."""
    post, sliding, roundtrip = sorted({*bpb, 1, 2, 3})[-3:]
    if post < 10**7:
        post, sliding, roundtrip = 10**7, 10**7 + 1000, 10**7 + 2000
    truth = Truth(
        seed=seed,
        steps=steps,
        model=model,
        code=code,
        roundtrip_bpb=roundtrip / 10**8,
        sliding_bpb=sliding / 10**8,
        post_ttt_bpb=post / 10**8,
    )
    run = one(dialect(truth, source=False))
    for name in ("seed", "steps", "artifact_bytes", "code_bytes", "post_ttt_bpb", "sliding_bpb", "final_bpb"):
        assert getattr(run, name) == truth.expected()[name], name


PREFIXES = {
    "unix_time": "1776142360.538 ",
    "clock": "[04:55:09] ",
    "date": "2026-04-12 04:55:09,123 ",
    "rank": "[rank0]: ",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("dialect", [logs.old, logs.new], ids=["old", "new"])
def test_what_a_launcher_adds_changes_nothing(dialect, prefix, end):
    """Time stamps, ranks and carriage returns leave every value as it is."""
    lines = dialect(source=False)
    plain = one(lines)
    told = parse_stream(io.BytesIO("".join(prefix + line + end for line in lines).encode()), "a.log")
    assert [getattr(told[0], name) for name in MEASURED] == [getattr(plain, name) for name in MEASURED]


@pytest.mark.parametrize("block", [64, 1000, 4096])
@pytest.mark.parametrize("dialect", [logs.old, logs.new], ids=["old", "new"])
def test_blocks_change_nothing(dialect, block, monkeypatch):
    """The values and their line numbers do not depend on where a block of the file ends."""
    whole = one(dialect())
    monkeypatch.setattr(reading, "BLOCK", block)
    assert one(dialect()) == whole


def test_two_runs_in_a_file_are_two():
    """Logs one after another give a run each, with its own values and line numbers in the file."""
    second = Truth(seed=42, steps=7000, post_ttt_bpb=1.11900001, model=15_900_000)
    runs = parse([*logs.old(), *logs.old(second)])
    assert [(run.run, run.runs, run.seed, run.steps, run.final_bpb) for run in runs] == [
        (1, 2, 1337, 7179, 1.11922988),
        (2, 2, 42, 7000, 1.11900001),
    ]
    assert runs[1].evidence["seed"].line == len(logs.old()) + 1 + logs.old().index("seed:1337")


def test_an_aborted_start_is_no_run():
    """A header that is printed twice before the first step belongs to the run that trained."""
    lines = logs.old(source=False)
    start = lines.index("warmup_step:1/20")
    assert one([*lines[:start], *lines]).seed == 1337


def test_curves_hold_the_points_on_the_way():
    """Training, validation and adaptation can be drawn, where curves are asked for and only there."""
    run = parse(logs.old(), curves=True)[0]
    assert run.curves is not None
    assert [step for step, _, _ in run.curves.train] == list(range(500, 7179, 500))
    assert run.curves.val[-1] == (7179, 1.9221, 1.1384)
    assert run.curves.ttt[0] == (1, 1.15998)
    assert one(logs.old()).curves is None
