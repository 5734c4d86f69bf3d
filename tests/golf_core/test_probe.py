"""The speed probe: what it measures is there and plausible, what is wrong is an error, and it judges nothing."""

import json

import pytest
import torch

from golf_core import probe
from golf_core.probe import CPU, PART, ProbeError, Sizes, all_reduce_gb_s, copy_gb_s, main, matmul_tflops, measure
from golf_core.process import Place

ALONE = Place(0, 1, torch.device("cpu"), torch.float32)
TINY = Sizes(side=16, copy_bytes=1 << 16, sum_bytes=1 << 10)


def test_one_process_tells_products_and_memory(capsys):
    """Begin and end of each part, then one object: positive speeds, no links where there is nobody else."""
    assert main(["--device", "cpu", "--seconds", "0.02"]) == 0
    *parts, last = capsys.readouterr().out.splitlines()
    names = ["matmul_tflops", "copy_gb_s", "all_reduce_gb_s"]
    assert parts == [f"{PART}{edge} {name}" for name in names for edge in ("begin", "end")]
    told = json.loads(last)
    assert (told["schema_version"], told["device"], told["world"], told["dtype"]) == (1, "cpu", 1, "fp32")
    assert 0 < told["matmul_tflops"][0] < 100 and 0 < told["copy_gb_s"][0] < 1e4 and told["all_reduce_gb_s"] is None
    assert told["seconds"] < 60


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_torch_does_not_see_are_an_error():
    """Asked for by name, none there: no silent measure of the CPU."""
    with pytest.raises(ProbeError, match="sees no GPU here"):
        main(["--device", "cuda"])


def test_a_wrong_product_is_an_error(monkeypatch):
    """Twice the identity times a matrix is that matrix twice, to the bit."""
    assert matmul_tflops(ALONE, TINY, 0.001) > 0
    true = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b, out=None: true(a, b, out=out) + 1e-3)
    with pytest.raises(ProbeError, match="rank 0: a product of matrices is wrong"):
        matmul_tflops(ALONE, TINY, 0.001)


def test_speeds_follow_from_the_time_of_a_call(monkeypatch):
    """A product of n matrices is 2 n^3 operations; a copy reads and writes each byte; the bus carries 2 (w-1) / w of a
    sum over w processes."""
    monkeypatch.setattr(probe, "measure", lambda place, call, seconds: 0.5)
    assert matmul_tflops(ALONE, CPU, 1.0) == 2 * 256**3 / 0.5 / 1e12
    assert copy_gb_s(ALONE, CPU, 1.0) == 2 * (8 << 20) / 0.5 / 1e9
    four = Place(0, 4, torch.device("cpu"), torch.float32)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda block: block.fill_(10.0))
    assert all_reduce_gb_s(four, CPU, 1.0) == 1.5 * (1 << 20) / 0.5 / 1e9
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda block: block.fill_(9.0))
    with pytest.raises(ProbeError, match="a sum over all processes is wrong"):
        all_reduce_gb_s(four, CPU, 1.0)


@pytest.mark.parametrize("each", [1e-4, 0.05, 3.0])
def test_a_measure_takes_about_the_seconds_that_it_is_given(monkeypatch, each):
    """Of slow calls a few more, of fast ones as many as fit; the median of the rounds is the time of one."""
    now, calls = [0.0], [0]

    def call():
        now[0] += each
        calls[0] += 1

    monkeypatch.setattr("golf_core.probe.time.perf_counter", lambda: now[0])
    assert measure(ALONE, call, 2.0) == pytest.approx(each)
    assert calls[0] * each <= 2.0 + 14 * each
