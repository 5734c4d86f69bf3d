"""Second moments of what each rounded matrix is multiplied with, for GPTQ: from training batches (openai/parameter-golf
#1060; the seconds belong to training), or from text that the model writes itself (#1019; no data, at any time).

Validation data is never used. Both are called (model, config, loader, place, seed) on every rank and give every rank
the same sums, by tensor name.

Shapes: B sequences, T positions, N columns of a matrix.
"""

import contextlib
import functools
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from golf_core.config import Config
from golf_core.data.loader import TrainLoader
from golf_core.model.gpt import GPT, Linear
from golf_core.process import Place
from golf_core.routes import tensor_route

WRITE_BATCH = 8  # sequences written together, with a generator of their own
WRITE_TEMPERATURE = 0.8
WRITE_BUCKET = 64  # lengths that the model sees while it writes are multiples of this


def train_calibration(model: GPT, config: Config, loader: TrainLoader, place: Place, seed: int) -> dict[str, Tensor]:
    """From the next sequences of the training stream, the same for every number of processes."""
    return _second_moments(model, config, place, _training_inputs(loader, config.quant.calibration_seqs, place))


def self_calibration(
    model: GPT, config: Config, loader: TrainLoader | None, place: Place, seed: int
) -> dict[str, Tensor]:
    """From sequences that the model writes; the loader is not touched.

    There is no cache of keys and values: a sequence costs as many forward passes as it has tokens, over half its
    length on average. 64 sequences of 2,048 are 135 million positions, about 30 training steps' worth of forward
    passes on full batches, but in 16,384 small launches for one process.
    """
    count = config.quant.calibration_seqs
    batches = range(place.rank, -(-count // WRITE_BATCH), place.world)
    written = (
        written_text(model, min(WRITE_BATCH, count - b * WRITE_BATCH), config.train.seq_len, (seed << 20) + b)
        for b in batches
    )
    return _second_moments(model, config, place, written)


def _training_inputs(loader: TrainLoader, count: int, place: Place) -> Iterator[Tensor]:
    """This rank's share of the next `count` sequences, counted over all ranks."""
    taken = 0
    while taken < count:
        ids_BT, _ = loader.next()
        mine = count - taken - place.rank * len(ids_BT)
        if mine > 0:
            yield ids_BT[:mine]
        taken += place.world * len(ids_BT)


@torch.no_grad()
def written_text(model: GPT, sequences: int, length: int, seed: int) -> Tensor:
    """Token ids (sequences, length): the first uniform, then drawn from the model at WRITE_TEMPERATURE."""
    vocab, device = model.config.vocab, model.tok_emb.weight.device
    draws = torch.rand(sequences, length, generator=torch.Generator().manual_seed(seed)).to(device)
    ids_BT = torch.zeros(sequences, length, dtype=torch.int64, device=device)
    ids_BT[:, 0] = (draws[:, 0] * vocab).long()
    for t in range(1, length):
        seen = min(-(-t // WRITE_BUCKET) * WRITE_BUCKET, length)  # what lies after t does not reach its past
        logits = model.logits(model.hidden(ids_BT[:, :seen])[:, t - 1])
        below = torch.softmax(logits / WRITE_TEMPERATURE, dim=-1).cumsum(dim=-1)
        token = torch.searchsorted(below, draws[:, t : t + 1] * below[:, -1:], right=True)
        ids_BT[:, t] = token[:, 0].clamp(max=vocab - 1)
    return ids_BT


@torch.no_grad()
def _second_moments(model: GPT, config: Config, place: Place, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Sum of x x^T, in fp32, over all ranks, for every rounded matrix that inputs are multiplied with."""
    sums: dict[str, Tensor] = {}
    with _watched(model, config, sums):
        for ids_BT in batches:
            hidden = model.hidden(ids_BT)
            if "tok_emb.weight" in sums:
                sums["tok_emb.weight"] += _moment(hidden)
    if place.world > 1:
        for moment in sums.values():
            dist.all_reduce(moment)
    return sums


@contextlib.contextmanager
def _watched(model: GPT, config: Config, sums: dict[str, Tensor]) -> Iterator[None]:
    """Fills `sums` with zeros, and adds to them whatever passes through the model inside. A matrix that several
    layers share is called by each, and so sums the inputs of all."""
    layers = [(f"{name}.weight", module) for name, module in model.named_modules() if isinstance(module, Linear)]
    last: list[Tensor] = [torch.empty(0), torch.empty(0)]  # q, k and v read one input: its moment is made once

    def add(name: str, module: nn.Module, inputs: tuple[Tensor]) -> None:
        if inputs[0] is not last[0]:
            last[:] = inputs[0], _moment(inputs[0])
        sums[name] += last[1]

    hooks = []
    for name, module in [*layers, ("tok_emb.weight", model.tok_emb)]:
        weight = module.weight
        if tensor_route(name, tuple(weight.shape), config.quant, config.model.layers).kind != "grid":
            continue
        sums[name] = torch.zeros(weight.size(1), weight.size(1), device=weight.device)
        if isinstance(module, Linear):
            hooks.append(module.register_forward_pre_hook(functools.partial(add, name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _moment(x: Tensor) -> Tensor:
    flat = x.reshape(-1, x.size(-1)).float()
    return flat.T @ flat
