"""Training at rounded weights: what is swapped in, what comes back, and when."""

import dataclasses

import pytest
import torch
import torch._dynamo.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from golf_core.config import Config
from golf_core.config_model import ModelConfig
from golf_core.config_quant import QATConfig, QuantConfig
from golf_core.model.gpt import GPT
from golf_core.parts import load_parts
from golf_core.quant.qat import WeightSwap
from golf_core.quant.rows import Quantizer, restore_tensor

MODEL = ModelConfig(vocab=40, layers=2, width=32, heads=2, kv_heads=1, bigram_buckets=64, bigram_width=16)
QUANT = QuantConfig(attn_bits=4, mlp_bits=4, embed_bits=6, table_bits=6, keep_numel=0, keep_fp16="c_k")


def swap_of(quant: QuantConfig = QUANT, **qat) -> tuple[GPT, WeightSwap]:
    config = Config(name="x", model=MODEL, quant=quant, qat=QATConfig(kind="swap", **qat))
    parts = load_parts(config)
    model = GPT(config.model, parts)
    generator = torch.Generator().manual_seed(0)
    model.init_weights(generator)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator)
    return model, parts["qat.kind"](model, Quantizer(config.quant, MODEL.layers, parts), config.qat)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 40, (3, 17), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], ids[:, 1:]


def values(model: GPT) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("clip", ["quantile", "max", "percentile_search", "ratio_search", "sd"])
@pytest.mark.parametrize("group", [1, 8])
def test_inside_are_the_values_of_the_artifact(clip, group):
    """Swapped in, every tensor on a grid holds what export stores and restores, bit for bit; the others are exact."""
    model, swap = swap_of(dataclasses.replace(QUANT, clip=clip, group_rows=group, prune_fraction=0.05))
    before = values(model)
    exported = swap.quantizer.export(before)
    with swap.rounded():
        inside = values(model)
    changed = set()
    for name, value in inside.items():
        if exported[name].scale is None:
            assert torch.equal(value, before[name])
        else:
            assert torch.equal(value, restore_tensor(exported[name]))
            changed.add(name)
    assert changed == set(swap.params)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


class NamedTensors(torch.nn.Module):
    """Normal weights of given shapes under names of the state dict."""

    def __init__(self, shapes: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        spread = {name: 0.05 * (1 + i % 3) for i, name in enumerate(shapes)}
        self.tensors = {
            n: torch.nn.Parameter(spread[n] * torch.randn(s, generator=generator)) for n, s in shapes.items()
        }

    def named_parameters(self, *args, **kwargs):
        return iter(self.tensors.items())


NAMES = (
    "tok_emb.weight",
    "bigram.table",
    *(f"blocks.{i}.{n}" for i in range(4) for n in ("attn.q", "mlp.fc", "mlp.proj")),
)
SHAPES = st.tuples(st.integers(1, 40), st.sampled_from([1, 16, 33, 70]))
MOST = st.sampled_from([1, 700, 1 << 30])  # elements of a stack


@settings(max_examples=200)
@given(
    st.dictionaries(st.sampled_from(NAMES), SHAPES, min_size=1),
    st.sampled_from(["quantile", "max", "percentile_search", "ratio_search", "sd"]),
    st.sampled_from(["row", "matrix"]),
    st.sampled_from([1, 4]),
    st.sampled_from([0.0, 0.0, 0.1]),
    st.booleans(),
    MOST,
)
def test_rounding_together_is_rounding_one_by_one(shapes, clip, select, group, pruned, cheap, most):
    """Under every clip rule, with groups of rows, edge layers of other bits and pruning: each tensor becomes what
    `fake` makes of it alone, bit for bit, however many are rounded together."""
    quant = QuantConfig(
        attn_bits=5, mlp_bits=6, edge_layers=1, edge_bits=8, keep_numel=0, sd_matrix=3.0, sd_embed=5.0,
        clip=clip, clip_select=select, group_rows=group, prune_fraction=pruned,
    )  # fmt: skip
    model, parts = NamedTensors(shapes), load_parts(Config(name="x", quant=quant))
    qat = QATConfig(kind="swap", clip="max" if cheap else "export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("golf_core.quant.qat.STACKED_ELEMENTS", most)
        swap = WeightSwap(model, Quantizer(quant, 4, parts), qat)
    before = values(model)
    assert sorted(name for names in swap.stacks for name in names) == sorted(shapes)
    assert swap.count == len(shapes)
    with swap.rounded():
        for name, p in model.named_parameters():
            assert torch.equal(p, swap.quantizer.fake(name, before[name]))
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_what_one_rule_rounds_by_rows_is_rounded_at_once(monkeypatch):
    """Matrices of one role, width and number of bits make one stack, except where the rule looks at a matrix whole,
    a group of rows would reach into the next tensor, or a stack would be too long."""
    shapes = {f"blocks.{i}.{n}": (8, 16 + 16 * (n == "mlp.proj")) for i in range(4) for n in ("attn.q", "mlp.proj")}

    def stacks(most: int = 1 << 30, **fields) -> int:
        quant = QuantConfig(keep_numel=0, edge_layers=1, edge_bits=5, **fields)
        parts = load_parts(Config(name="x", quant=quant))
        monkeypatch.setattr("golf_core.quant.qat.STACKED_ELEMENTS", most)
        return len(WeightSwap(NamedTensors(shapes), Quantizer(quant, 4, parts), QATConfig(kind="swap")).stacks)

    assert stacks() == 4  # two roles, at the edges and between
    assert stacks(group_rows=4) == stacks(clip="ratio_search") == stacks(clip="sd", clip_select="matrix") == 4
    assert stacks(clip="ratio_search", clip_select="matrix") == 8
    assert stacks(group_rows=3) == stacks(prune_fraction=0.1) == stacks(most=128) == 8


@pytest.mark.parametrize(
    ("tensors", "roles"),
    [("all", ("tok_emb", "bigram", "attn", "mlp")), ("matrices", ("attn", "mlp")), ("mlp", ("mlp",))],
)
def test_the_scope_is_the_configs(tensors, roles):
    """Only tensors of the named roles are swapped, and of those never one that export keeps exact or as fp16."""
    model, swap = swap_of(tensors=tensors)
    for name, p in model.named_parameters():
        assert (name in swap.params) == (p.ndim == 2 and any(role in name for role in roles) and not skipped(name))


def skipped(name: str) -> bool:
    return any(part in name for part in ("c_k", "resid_mix", "skip_weights"))


def test_the_cheap_clip_is_the_rows_maximum():
    """With qat.clip="max" the grid is the export's and the clip the row's maximum, whatever the export's rule is."""
    quant = dataclasses.replace(QUANT, clip="ratio_search", prune_fraction=0.3)
    model, swap = swap_of(quant, clip="max")
    weight = model.blocks[0].mlp.fc.weight.detach().clone()
    scale = (weight.abs().amax(dim=1) / 7).half().float()[:, None]
    with swap.rounded():
        assert torch.equal(model.blocks[0].mlp.fc.weight, (weight / scale).round().clamp(-7, 7) * scale)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_exact_values_come_back_from_everything(error):
    """An error inside, and one while rounding, leave the exact weights, bit for bit; so does a second swap."""
    model, swap = swap_of()
    before = values(model)
    with pytest.raises(error), swap.rounded():
        assert not torch.equal(model.tok_emb.weight, before["tok_emb.weight"])
        raise error
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    rule, calls = swap.quantizer.parts["quant.clip"], []

    def fails_at_the_third(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return rule(*arguments)

    swap.quantizer.parts = {**swap.quantizer.parts, "quant.clip": fails_at_the_third}
    with pytest.raises(error), swap.rounded():
        raise AssertionError("the body must not run at half-rounded weights")
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_gradient_is_that_at_the_rounded_weights_and_moves_the_exact():
    """The gradient equals that of a model which holds the restored weights (straight-through: identity everywhere);
    a step moves the exact weights by it."""
    model, swap = swap_of()
    other, _ = swap_of()
    other.load_state_dict({n: restore_tensor(s) for n, s in swap.quantizer.export(model.state_dict()).items()})
    with torch.no_grad():
        other.blocks[0].attn.c_k.weight.copy_(model.blocks[0].attn.c_k.weight)  # export's fp16 is not swapped
        other.blocks[1].attn.c_k.weight.copy_(model.blocks[1].attn.c_k.weight)
    before = values(model)
    with swap.rounded():
        loss = model(*batch())
        loss.backward()
    expected = other(*batch())
    expected.backward()
    assert torch.equal(loss, expected)
    gradients = {name: p.grad for name, p in other.named_parameters()}
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters())
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] - 0.1 * gradients[name], rtol=0, atol=1e-7)


def test_a_late_backward_is_refused():
    """A backward pass after the exact weights came back would mix two models: autograd says so."""
    model, swap = swap_of()
    with swap.rounded():
        loss = model(*batch())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # Dynamo's own, on CPU paths
def test_a_compiled_model_feels_it_without_compiling_again():
    """In one compiled graph the loss changes when weights are swapped in, equals eager's, and returns afterwards."""
    model, swap = swap_of()
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    compiled = torch.compile(model, dynamic=False, backend=counter)
    x, y = batch()
    exact = compiled(x, y)
    exact.backward()
    frames = counter.frame_count
    with swap.rounded():
        rounded, eager = compiled(x, y), model(x, y)
        rounded.backward()
    assert (rounded - exact).abs() > 1e-4
    torch.testing.assert_close(rounded, eager)
    assert torch.equal(compiled(x, y), exact)
    assert counter.frame_count == frames
    model.eval()
    evaluated = model(x, y)
    model.train()
    assert torch.equal(model(x, y), evaluated)
    torch._dynamo.reset()


@given(
    st.sampled_from(["begin", "steps", "time", "scale"]),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(1, 100)),
    st.lists(st.tuples(st.floats(0, 120), st.floats(0, 1)), min_size=1, max_size=20),
)
def test_it_begins_by_its_rule_and_stays(start, at, cap, path):
    """Due from the first step that meets the rule on, even if the rule no longer holds; never before."""
    swap = WeightSwap(torch.nn.Linear(1, 1), Quantizer(QUANT, 2, {}), QATConfig(kind="swap", start=start, at=at))
    begun = False
    for step, (elapsed, scale) in enumerate(path):
        rules = {
            "begin": True,
            "steps": step >= at * len(path),
            "time": elapsed >= at * cap if cap is not None else step >= at * len(path),
            "scale": scale < at,
        }
        begun = begun or rules[start]
        assert swap.due(step, len(path), elapsed, cap, scale) == begun
