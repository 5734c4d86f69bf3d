"""Pruning to a budget: what fits is left alone, what does not is made to fit as cheaply as can be found."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.artifact.brotli_codec import BrotliCodec
from golf_core.artifact.budget import prune_to_budget
from golf_core.artifact.container import decode_artifact, encode_artifact
from golf_core.artifact.lzma_codec import LzmaCodec
from golf_core.artifact.zlib_codec import ZlibCodec
from golf_core.artifact.zstd_codec import ZstdCodec
from golf_core.config_quant import QuantConfig
from golf_core.quant.clip import max_clip
from golf_core.quant.nibbles import Nibbles
from golf_core.quant.rows import Quantizer

CODE = 1000


@functools.cache
def stored_tensors(bits: int = 6, group: int = 1):
    """Normal rows of different spread, and tensors that are on no grid."""
    generator = torch.Generator().manual_seed(bits)
    state = {}
    for layer in range(3):
        for name, shape in (("attn.c_q", (90, 120)), ("mlp.fc", (150, 61))):
            spread = 0.01 + 0.1 * torch.rand(shape[0], 1, generator=generator)
            state[f"blocks.{layer}.{name}.weight"] = spread * torch.randn(shape, generator=generator)
    state["blocks.0.attn.q_gain"] = torch.randn(4, generator=generator)
    state["blocks.0.attn.c_k.weight"] = torch.randn(9, 9, generator=generator)
    quant = QuantConfig(attn_bits=bits, mlp_bits=6, keep_numel=100, group_rows=group)
    return Quantizer(quant, 3, {"quant.clip": max_clip}).export(state)


class CountedEncoder:
    def __init__(self, codec, packing=None) -> None:
        self.codec, self.packing, self.calls = codec, packing, []

    def __call__(self, stored) -> bytes:
        self.calls.append(encode_artifact(stored, self.codec, self.packing))
        return self.calls[-1]


def check_pruned(before, after, report) -> None:
    """Only codes of +-1 became 0, as many as reported, and none dearer than one that stayed."""
    gone, dearest, cheapest = 0, 0.0, float("inf")
    assert list(after) == list(before)
    for name, s in before.items():
        codes = after[name].codes
        if s.scale is None:
            assert after[name] is s
            continue
        assert torch.equal(after[name].scale, s.scale)
        changed = codes != s.codes
        assert (s.codes[changed].abs() == 1).all() and not codes[changed].any()
        gone += int(changed.sum())
        scale = s.scale.float().repeat_interleave(s.group_rows)[: s.shape[0], None].expand(s.shape)
        if changed.any():
            dearest = max(dearest, float(scale[changed].max()))
        if (codes.abs() == 1).any():
            cheapest = min(cheapest, float(scale[codes.abs() == 1].min()))
    assert gone == report.pruned
    assert dearest <= cheapest


@pytest.mark.parametrize("codec", [ZlibCodec(), LzmaCodec(6), ZstdCodec(19), BrotliCodec(5)], ids=lambda c: c.name)
@given(
    share=st.one_of(st.floats(0.97, 1.001), st.floats(0.7, 1)),
    form=st.sampled_from([(6, 1, None), (4, 8, Nibbles), (5, 3, None)]),
)
@settings(max_examples=10, deadline=None)
def test_it_fits_or_everything_is_zeroed(codec, share, form):
    """For every codec, packing and target: under the target, or all candidates zeroed and a warning; at most three
    calls of the real codec; what is returned was measured and decodes to what is returned."""
    bits, group, packing = form
    stored = stored_tensors(bits, group)
    target = int(share * len(encode_artifact(stored, codec, packing))) + CODE
    encode = CountedEncoder(codec, packing)
    after, data, report = prune_to_budget(stored, encode, CODE, target, packing)
    assert report.real_calls == len(encode.calls) <= 3
    assert data in encode.calls
    assert report.total_bytes == CODE + len(data)
    assert report.total_bytes <= target or report.pruned == report.candidates
    assert (len(report.lines()) > 1) == (report.total_bytes > target)
    assert encode_artifact(after, codec, packing) == data
    back = decode_artifact(data, codec, packing)
    assert all(torch.equal(back[name].codes, s.codes) for name, s in after.items())
    check_pruned(stored, after, report)
    again = prune_to_budget(stored, CountedEncoder(codec, packing), CODE, target, packing)
    assert again[1:] == (data, report)


def test_what_fits_is_not_touched():
    """At the target exactly nothing is pruned and the codec is called once; one byte less prunes a little."""
    stored = stored_tensors()
    size = len(encode_artifact(stored, LzmaCodec())) + CODE
    after, _, report = prune_to_budget(stored, CountedEncoder(LzmaCodec()), CODE, size)
    assert (report.pruned, report.real_calls) == (0, 1)
    assert all(after[name] is s or torch.equal(after[name].codes, s.codes) for name, s in stored.items())
    assert report.lines() == [f"export_budget: target={size}B current={size}B pruned=0"]
    _, _, report = prune_to_budget(stored, CountedEncoder(LzmaCodec()), CODE, size - 1)
    assert 0 < report.pruned < 0.3 * report.candidates


@pytest.mark.parametrize("codec", [LzmaCodec(), ZstdCodec()], ids=lambda c: c.name)
def test_no_more_is_pruned_than_about_needed(codec):
    """The target is met with little room: at most a tenth of what had to be saved, and a thousandth of the file."""
    stored = stored_tensors()
    size = len(encode_artifact(stored, codec))
    target = CODE + int(0.985 * size)
    _, _, report = prune_to_budget(stored, CountedEncoder(codec), CODE, target)
    assert report.total_bytes <= target
    assert target - report.total_bytes <= 0.1 * 0.015 * size + 0.001 * size


def test_what_cannot_fit_is_zeroed_and_said():
    """A target below everything zeroes all candidates, with a warning in the line; a target without any is said too."""
    stored = stored_tensors()
    after, _, report = prune_to_budget(stored, CountedEncoder(ZlibCodec()), CODE, 2000)
    assert report.pruned == report.candidates > 0
    assert all(not (s.codes.abs() == 1).any() for s in after.values() if s.scale is not None)
    assert "bytes over the target with every code of +-1 zeroed" in report.lines()[1]
    nothing = {name: s for name, s in stored.items() if s.scale is None}
    after, _, report = prune_to_budget(nothing, CountedEncoder(ZlibCodec()), CODE, 10)
    assert (report.pruned, report.candidates, report.real_calls) == (0, 0, 1)
    assert report.lines()[1].startswith("warning: export_budget: ")


def test_a_codec_that_saves_less_than_trusted_still_fits():
    """Where the first guess does not fit, everything is zeroed rather than something unmeasured shipped."""
    stored = stored_tensors()

    sizes = []

    def stubborn(pruned) -> bytes:
        left = any((s.codes.abs() == 1).any() for s in pruned.values() if s.scale is not None)
        sizes.append(10_000 if left else 5_000)
        return bytes(sizes[-1])

    _, data, report = prune_to_budget(stored, stubborn, CODE, CODE + 9_990)
    assert sizes == [10_000, 10_000, 5_000]
    assert (len(data), report.real_calls, report.pruned) == (5_000, 3, report.candidates)
