"""What a simple parser takes for a result, and what a log does not tell: right, or silent with a reason."""

import io
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.parse import lines as reading
from results.parse import reader
from results.parse.reader import parse_stream
from results.parse.run import MEASURED
from tests.results.parse import logs
from tests.results.parse.logs import score, written


def parse(data: bytes):
    return parse_stream(io.BytesIO(data), "a.log")


def one(lines):
    runs = parse(written(lines))
    assert len(runs) == 1
    return runs[0]


def test_source_code_is_no_evidence():
    """Of a log that is printed source alone nothing is known."""
    run = one(logs.SOURCE.splitlines())
    assert all(getattr(run, name) is None for name in MEASURED)


def base(*evaluation: str, header: tuple[str, ...] = ()) -> list[str]:
    """A log until its evaluation, then these lines."""
    lines = logs.old(source=False)
    return [
        *header,
        *lines[: next(i for i, line in enumerate(lines) if line.startswith("final_int6_roundtrip"))],
        *evaluation,
    ]


def test_a_roundtrip_label_may_carry_the_sliding_score():
    """Announced as a sliding evaluation, the first script's label is one."""
    run = one(
        base(
            "Compiling forward_logits for sliding window eval (stride=64, seq_len=1024)...",
            *logs.exact_pair("final_int8_zlib_roundtrip", 1.1742, " eval_time:159776ms"),
        )
    )
    assert (run.sliding_bpb, run.roundtrip_bpb, run.final_stage) == (1.1742, None, "sliding")


def test_a_roundtrip_label_may_carry_the_ttt_score():
    """An evaluation mode that says test-time training is believed before the label."""
    lines = [score("final_int8_zlib_roundtrip", 1.1473, 4, " eval_mode:online_ttt eval_time:0ms")]
    run = one(base("ttt:completed steps:310 time:76.2s", *lines, score("final_int8_zlib_roundtrip_exact", 1.14730259)))
    assert (run.post_ttt_bpb, run.roundtrip_bpb, run.ttt_time_s) == (1.14730259, None, 76.2)


def test_running_scores_are_not_final():
    """A chunk, a batch, a percentage or an epoch with a better number never becomes the claim."""
    run = one(
        base(
            *logs.exact_pair("final_int6_sliding_window", 1.1217, " stride:64 eval_time:76088ms"),
            "ttt_sliding:start chunks=1893",
            "  ttt_chunk [1/1893] bpb=0.900000 time=0.5s",
            "  sliding_eval [ 10.6%] 25632/242272 windows running_bpb=0.912153",
            "ttt_progress: batch 3/782 batch_loss:3.3 batch_bpb:0.9664 running_bpb:0.9810 doc_len:75-78",
            "prequant_ttt:epoch 1/21 val_bpb=0.905557 lr=0.001000 time=82.5s",
            *logs.exact_pair("legal_ttt", 1.1192, " eval_time:410268ms"),
        )
    )
    assert run.final_bpb == 1.1192


@pytest.mark.parametrize(
    "ttt, announced, stage",
    [
        (1.3360, False, "sliding"),  # diverged
        (1.1300, False, None),  # a little worse: either may be claimed
        (1.1300, True, "ttt"),  # configured as the evaluation of this run
    ],
    ids=["diverged", "worse", "worse_but_configured"],
)
def test_ttt_that_made_it_worse(ttt, announced, stage):
    """A diverged adaptation is not claimed; one that is a little worse only where the run says that it counts."""
    header = ("Hyperparameters:", "  ttt_enabled: True") if announced else ()
    run = one(
        base(
            score("quantized_sliding_window", 1.1217, 8, " eval_time:76088ms"),
            score("quantized_ttt", ttt, 8, " eval_time:405410ms"),
            header=header,
        )
    )
    assert run.final_stage == stage
    assert (run.final_bpb is None) == (stage is None) == ("final_bpb" in run.reasons)


def test_a_score_of_part_of_the_text_is_no_claim():
    """A mixture over 27 MB of the 151 MB is not the score of the validation text."""
    run = one(
        base(
            "ppm_mix bytes=27048621 mix_bpb=0.901534 ppm_only=2.07", score("quantized_ttt", 1.0618, 8, " eval_time:1ms")
        )
    )
    assert run.final_bpb == 1.0618


def test_unlabelled_total_is_the_checkpoint():
    """Only a total that compressed weights and code sum up to is the artifact."""
    run = one(logs.old())
    assert run.artifact_bytes == 15_887_928 + 89_458
    alone = [line for line in logs.old(source=False) if "int6+lzma" not in line]
    assert one(alone).artifact_bytes is None


def test_sizes_that_contradict_each_other_are_not_chosen_from():
    """Two artifacts of which no sum tells which one ships: silence, and both in the reason."""
    lines = [line for line in logs.old(source=False) if "erialized" not in line and "ubmission" not in line]
    run = one([*lines, "artifact_bytes: 15555017", "artifact_bytes: 15666017"])
    assert run.artifact_bytes is None and "15,555,017" in run.reasons["artifact_bytes"]


def test_seeds_that_contradict_each_other_are_not_chosen_from():
    """The trainer's own seed counts; two of them are none."""
    lines = logs.old(source=False)
    at = lines.index("seed:1337")
    assert one([*lines[:at], "Extra args: SEED=42 TTT=1", *lines[at:]]).seed == 1337
    run = one([*lines[:at], "seed:42", *lines[at:]])
    assert run.seed is None and "1337" in run.reasons["seed"] and "42" in run.reasons["seed"]


def test_a_ratio_that_differs_is_told():
    """val_loss over val_bpb is one number within a run: a score with another one is warned of."""
    wrong = "quantized_sliding_window val_loss:2.77923603 val_bpb:0.99100685 eval_time:533392ms"
    run = one(base(score("quantized", 1.0978, 8, " eval_time:9000ms"), wrong))
    assert any("val_loss/val_bpb" in warning for warning in run.warnings)


LINES = {"old": logs.old(source=False), "new": logs.new(source=False), "new_with_source": logs.new()}


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_a_log_cut_anywhere_is_right_or_silent(lines):
    """At every byte: each value is that of the whole log, or unknown.

    One exception is no fault of a parser: where the cut falls on the end of a sliding score of the old script, what
    is left is byte for byte the log of a run without test-time training.
    """
    data = written(lines)
    whole = parse(data)[0]
    spared = 0
    for cut in range(len(data)):
        runs = parse(data[:cut])
        assert len(runs) == 1
        kept = data[:cut].rstrip(b"\n").rpartition(b"\n")[2]
        if (
            lines is LINES["old"]
            and kept.startswith((b"final_int6_sliding_window_exact", b"final_int8"))
            and runs[0].final_bpb
        ):
            spared += 1
            continue
        for name in MEASURED:
            value = getattr(runs[0], name)
            if name == "eval_time_s" and value == 410.268:
                continue  # of the stage; a total in tenths of a second may follow
            assert value is None or value == getattr(whole, name), (cut, name, value, data[max(0, cut - 60) : cut])
    assert spared <= 4


@given(st.binary(max_size=3000))
def test_any_bytes_are_read(data):
    """No content of a file is an error, and what is found has evidence."""
    for run in parse(data):
        for name in MEASURED:
            assert (getattr(run, name) is None) == (name in run.reasons) == (name not in run.evidence)


@settings(max_examples=60)
@given(st.data())
def test_damaged_logs_never_raise(data):
    """Lines lost, repeated, joined or cut: still one or more runs, each value with its evidence."""
    lines = [line.encode() for line in logs.old(source=False)]
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = data.draw(
            st.sampled_from(
                [
                    b"",
                    lines[at] * 2,
                    lines[at][: len(lines[at]) // 2],
                    lines[at] + lines[(at + 1) % len(lines)],
                    lines[at].replace(b":", b": -"),
                    b"9" * 5000,
                    b"val_bpb:" + b"9" * 400 + b"." + b"9" * 400,
                ]
            )
        )
    for run in parse(b"\n".join(lines)):
        assert set(run.evidence) | set(run.reasons) == set(MEASURED)


class Endless:
    """A file of `total` bytes that repeats a log, and is nowhere whole."""

    def __init__(self, data: bytes, total: int) -> None:
        self.data, self.left, self.at = data, total, 0

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        times = 2 + size // len(self.data)
        chunk = (self.data * times)[self.at : self.at + size]
        self.at = (self.at + size) % len(self.data)
        self.left -= size
        return chunk


@pytest.mark.parametrize("kind", ["steps", "one_line", "source"])
def test_memory_is_bounded(kind, monkeypatch):
    """Of a log of many blocks no more than a few blocks are ever held, whether it is steps, one line or source."""
    monkeypatch.setattr(reading, "BLOCK", 1 << 15)
    data = {
        "steps": b"".join(b"step:%d/900000 train_loss:2.1 train_time:%dms\n" % (i, i) for i in range(100, 900)),
        "one_line": b"import lzma as L;exec(" * 100,
        "source": logs.SOURCE.encode(),
    }[kind]
    tracemalloc.start()
    try:
        parse_stream(Endless(data, 3_000_000), "a.log", curves=True)  # type: ignore[arg-type]
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()


def test_too_many_runs_are_told(monkeypatch):
    """Runs beyond what is kept are counted, never mixed into the last one."""
    monkeypatch.setattr(reader, "MAX_RUNS", 3)
    runs = parse(written([line for seed in range(5) for line in logs.old(logs.Truth(seed=seed))]))
    assert [run.seed for run in runs] == [0, 1, 2]
    assert any("2 more runs" in warning for warning in runs[-1].warnings)
