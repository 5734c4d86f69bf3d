"""Lines that look like a score, a size or a header and are none, and logs in unusual dress."""

import io

import pytest

from results.parse.reader import parse_stream
from tests.results.parse import logs
from tests.results.parse.logs import score, written

SLIDING = 1.12165091
PLAIN = logs.old(source=False)
PLAIN = PLAIN[: next(i for i, line in enumerate(PLAIN) if line.startswith("ttt_sliding:start"))]


def parse(data: bytes):
    return parse_stream(io.BytesIO(data), "a.log")


def one(lines):
    runs = parse(written(lines))
    assert len(runs) == 1
    return runs[0]


def test_the_plain_log_claims_its_sliding_score():
    """What the cases below are added to has a claim."""
    assert (one(PLAIN).final_bpb, one(PLAIN).final_stage) == (SLIDING, "sliding")


NO_SCORES = [
    "**val_bpb: 1.1028** (3-seed mean, std 0.0005)",
    "Δval_bpb: 0.0042",
    "3-seed mean sliding val_bpb: 1.1042",
    "sliding std val_bpb: 0.0005",
    "quant_cost_bpb=0.0083",
    "ttt_delta_bpb: 0.0045",
    "SOTA sliding val_bpb:1.1194",
    "previous record (PR #549) legal_ttt val_bpb:1.1194",
    "baseline sliding window val_bpb: 1.0925",
    "teacher_sliding val_bpb:1.0100",
    "train-set sliding val_bpb:1.0100",
    "oracle_ttt val_loss:1.709802 val_bpb:1.010000 (upper bound, uses labels)",
    "final_sliding (first 1M tokens) val_bpb:1.0801",
    "unquantized_sliding_window_exact val_loss:1.87908943 val_bpb:1.11000000",
    "Skipping TTT because TTT_ENABLED=0",
    "Sliding window attention kernel: flash3",
    "quant_gap: 0.014231 BPB (pre:1.163482 post:1.177713)",
    "[rank7]: final_int6_sliding_window_exact val_loss:1.80908943 val_bpb:1.10000000",
    "  step 100/500 | loss 0.0100 | adaround",
    "Step 3/5: writing the artifact",
    "final_no_ttt val_bpb:1.12165091",
    "exit code: 137",
]


@pytest.mark.parametrize("line", NO_SCORES)
def test_what_is_no_score_changes_no_claim(line):
    """A difference, a spread, somebody else's score, a loop of another kind: the claim is what it was."""
    run, plain = one([*PLAIN, line]), one(PLAIN)
    assert (run.final_bpb, run.sliding_bpb, run.post_ttt_bpb) == (SLIDING, SLIDING, None)
    assert (run.steps, run.artifact_bytes, run.code_bytes) == (plain.steps, plain.artifact_bytes, plain.code_bytes)


TOLD_OTHERWISE = [
    "TTT BPB 1.11901233",
    "post-ttt bits_per_byte: 1.11901233",
    "val_bpb_ttt: 1.11901233",
    "val_bpb (TTT) = 1.11901233",
    "ttt val_bpb 1.11901233 (took 410 s)",
    "after ttt: 1.11901233 BPB",
]


@pytest.mark.parametrize("line", TOLD_OTHERWISE)
def test_a_score_in_other_words_is_read(line):
    """The stage and the number count, not the spelling of bits per byte."""
    assert (one([*PLAIN, line]).final_bpb, one([*PLAIN, line]).final_stage) == (1.11901233, "ttt")


NOT_KNOWN = [
    "| legal_ttt | 1.11901233 |",
    "final_ttt_exact val_loss:nan val_bpb:nan",
    "temp_sweep best T=0.95 val_bpb:1.1121",
    "ttt_sliding:start chunks=1893",
]


@pytest.mark.parametrize("line", NOT_KNOWN)
def test_what_may_be_a_later_score_is_not_passed_over(line):
    """A row of a table, a NaN, the best of a sweep or an evaluation that began: nothing is claimed."""
    run = one([*PLAIN, line])
    assert run.final_bpb is None and str(len(PLAIN) + 1) in run.reasons["final_bpb"]


LABELS = {
    "final_ema_int6_sliding_window_exact": "sliding",
    "swa_int8_sliding_window_exact": "sliding",
    "final_fp8_ternary_roundtrip": "roundtrip",
    "quantized_ttt_phased": "ttt",
    "final_slot_exact": "other",
}


@pytest.mark.parametrize("label, stage", LABELS.items())
def test_averages_and_formats_do_not_hide_the_stage(label, stage):
    """Words for averaging or a number format stand beside the stage's."""
    run = one([*PLAIN[:-5], score(label, 1.10000001)])
    assert (run.final_bpb, run.final_stage) == (1.10000001, stage)


def test_scores_on_the_way_are_forgotten_when_training_goes_on():
    """A look at quantized weights in the middle of training is neither the claim nor the end of training."""
    at = next(i for i, line in enumerate(PLAIN) if line.startswith("step:6000/"))
    look = "qat_check int6_roundtrip val_loss:2.05 val_bpb:1.2200"
    assert one([*PLAIN[:at], look, *PLAIN[at:]]).final_bpb == SLIDING
    cut = one([*PLAIN[:at], look, *PLAIN[at : at + 3], "torch.OutOfMemoryError: CUDA out of memory"])
    assert (cut.final_bpb, cut.steps, cut.train_time_s) == (None, None, None)


def test_a_sweep_has_no_last_word():
    """Of scores under one label, but for a number, the last is no claim where another is better."""
    sweep = ["clip=13 int6 roundtrip val_bpb:1.148", "clip=14 int6 roundtrip val_bpb:1.149", "selected clip=13"]
    assert one([*PLAIN[:-5], *sweep]).final_bpb is None


def test_a_loop_that_prints_thousands_of_scores_is_a_loop():
    """Scores under one label, over and over, are on the way to the one that follows, whatever they are called."""
    loop = [f"ttt doc {i} loss=2.1 bpb={1.3 - i * 1e-5:.5f}" for i in range(5000)]
    run = one([*PLAIN, *loop, score("legal_ttt_exact", 1.11922988)])
    assert (run.final_bpb, run.post_ttt_bpb) == (1.11922988, 1.11922988)


def test_words_before_a_header_are_of_another_run():
    """A README in front of a log, with a result of its own, is not a run."""
    words = ["# Record: 1.0810", score("final_int8_zlib_roundtrip_exact", 1.2243657), "Total submission size: 99 bytes"]
    assert one([*words, *PLAIN]).final_bpb == SLIDING


def test_a_docstring_with_rules_is_source():
    """A rule and results inside the docstring that a printed source begins with do not end the source."""
    source = [
        '"""',
        "Results",
        "=" * 60,
        score("final_int8_zlib_roundtrip_exact", 1.0888),
        '"""',
        "import os",
        "=" * 100,
    ]
    assert one([*source, *PLAIN]).final_bpb == SLIDING
    assert one([*PLAIN, "import flash_attn_3 failed, using sdpa"]).final_bpb == SLIDING


SIZES = [
    "Total training time = 600070 ms",
    "Total parameters = 26928220",
    "Total tokens processed: 5636096000 (batch size 786432)",
    "Total artifact limit: 16,000,000 bytes",
    "total submission size: 15587 KB",
]


@pytest.mark.parametrize("line", SIZES)
def test_other_totals_are_no_artifact(line):
    """A time, a count, a limit or a rounded size is not the artifact's bytes."""
    assert one([*PLAIN, line]).artifact_bytes == one(PLAIN).artifact_bytes
    alone = [one_line for one_line in PLAIN if "ubmission" not in one_line and "erialized" not in one_line]
    assert one([*alone, line]).artifact_bytes is None


def dressed(data: bytes) -> dict[str, bytes]:
    return {
        "utf16": data.decode().encode("utf-16"),
        "bom": b"\xef\xbb\xbf" + data,
        "carriage_returns": data.replace(b"\n", b"\r"),
        "colours": b"".join(b"\x1b[32m" + line + b"\x1b[0m\n" for line in data.splitlines()),
        "loguru": b"".join(
            b"2026-04-12 04:55:09.123 | INFO     | __main__:main:12 - " + line + b"\n" for line in data.splitlines()
        ),
        "compose": b"".join(b"train-1  | " + line + b"\n" for line in data.splitlines()),
    }


@pytest.mark.parametrize("dress", dressed(b""))
def test_dress_does_not_matter(dress):
    """Encodings, colours and what containers put before a line leave the claim as it is."""
    runs = parse(dressed(written(PLAIN))[dress])
    assert [(run.final_bpb, run.steps, run.seed) for run in runs] == [(SLIDING, 7179, 1337)]


def test_a_bar_and_a_score_in_one_line():
    """Behind ten thousand updates of a progress bar the score of the same line is read."""
    bar = "".join(f"\r{i}%|###      | {i}/100" for i in range(100)) * 100
    exact = PLAIN.index(score("final_int6_sliding_window_exact", SLIDING))
    lines = [*PLAIN[: exact - 1], f"{bar}\r{PLAIN[exact - 1]}", *PLAIN[exact:]]
    assert one(lines).sliding_bpb == SLIDING


HOSTILE = [
    b"ttt" + b" " * 4000,
    b"t" * 4000,
    b"prequant_" * 450,
    b"stopping_early" * 290,
    b"Total " * 680,
    b"ttt:done elapsed " * 240,
    b"val_bpb " * 500,
    b"model_params:" + b"9" * 4000,
    b"val_bpb:" + b"9" * 400 + b".5",
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_no_line_is_slow_or_fatal(line):
    """Three hundred lines made to make a pattern stumble are read like others: the test has no patience for more."""
    head = b"stopping_early: wallclock_cap train_time:600061ms step:10/20\nSerialized model int6: 100000 bytes\n"
    for run in parse(head + (line + b"\n") * 300):
        assert run.final_bpb is None
