"""For test_parallel_muon.py, in one process of several (worlds.py): parallel Muon beside the plain one on summed
gradients."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from golf_core.config import OptimConfig
from golf_core.optim.groups import Optimizers
from golf_core.optim.muon import Muon
from golf_core.optim.parallel_muon import ParallelMuon
from golf_core.process import Place

STEPS = 4


class Matrices(nn.Module):
    """An embedding, vectors, and matrices of four shapes whose numbers no world size divides."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        shapes = [(24, 12)] * 5 + [(12, 24)] * 3 + [(16, 16)] + [(12, 12)] * 7
        self.tok_emb = nn.Embedding(10, 12)
        self.matrices = nn.ParameterList(nn.Parameter(torch.zeros(shape)) for shape in shapes)
        self.vectors = nn.ParameterList(nn.Parameter(torch.zeros(12)) for _ in range(3))
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(0.1 * torch.randn(p.shape, generator=generator))


def gradients_of(model: nn.Module, step: int, rank: int) -> list[Tensor]:
    """What a rank's backward pass is made to leave; different on every rank."""
    generator = torch.Generator().manual_seed(100 * step + rank)
    return [torch.randn(p.shape, generator=generator) for p in model.parameters()]


def trained(config: OptimConfig, muon: type, place: Place, *, alone: bool) -> tuple[Matrices, Optimizers, list[float]]:
    """The model after some steps: as one of the ranks, or, `alone`, as one process with everybody's gradients. Also
    the clock's readings."""
    model = Matrices()
    optimizers = Optimizers(model, config, muon, 0 if alone else place.rank, 1 if alone else place.world)
    clock = []
    for step in range(STEPS):
        optimizers.gradients.zero()
        for rank in range(place.world) if alone else [place.rank]:
            for p, g in zip(model.parameters(), gradients_of(model, step, rank), strict=True):
                p.grad.add_(g)
        if alone or place.first:
            optimizers.gradients.clock.fill_(1.5 + step)
        optimizers.gradients.reduce()
        clock.append(float(optimizers.gradients.clock))
        optimizers.gradients.clip(config.grad_clip)
        optimizers.step(step, 1.0 - 0.1 * step)
    return model, optimizers, clock


def difference(a: nn.Module, b: nn.Module) -> float:
    """The largest over all parameters."""
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((p - q).abs().max()) for p, q in pairs)


def same_everywhere(values: Tensor, place: Place) -> bool:
    if place.world == 1:
        return True
    everyone = [torch.empty_like(values) for _ in range(place.world)]
    dist.all_gather(everyone, values.contiguous())
    return all(torch.equal(values, other) for other in everyone)


def check(config: OptimConfig, place: Place) -> dict:
    model, optimizers, clock = trained(config, ParallelMuon, place, alone=False)
    plain, _, _ = trained(config, Muon, place, alone=True)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    padding = [bank.updates_SMN[len(bank.params) :] for bank in optimizers.muon.banks]
    pads = [bank.gradients_SMN[len(bank.params) :] for bank in optimizers.muon.banks]
    small = optimizers.gradients.small[:-1]
    momentum = sum(float(bank.momentum_SMN.abs().sum()) for bank in optimizers.muon.banks)
    optimizers.reset()
    return {
        "difference": difference(model, plain),
        "moved": difference(model, Matrices()),
        "same_everywhere": same_everywhere(flat, place),
        "same_clipping": same_everywhere(small, place),  # they were scaled by the clip's factor
        "clock": clock,
        "padded": sum(pad.size(0) for pad in padding),
        "padding_zero": not any(bool(pad.any()) for pad in [*padding, *pads]),
        "momentum": momentum,
        "momentum_after_reset": sum(float(bank.momentum_SMN.abs().sum()) for bank in optimizers.muon.banks),
        "shares": [bank.momentum_SMN.size(0) for bank in optimizers.muon.banks],
        "bank_sizes": [bank.numel for bank in optimizers.muon.banks],
    }


def clipped_norm(place: Place) -> dict:
    """The global norm of the summed gradients, before and after clipping, put together from all ranks' shares."""
    model = Matrices()
    optimizers = Optimizers(model, OptimConfig(muon="parallel"), ParallelMuon, place.rank, place.world)
    gradients = optimizers.gradients
    for p, g in zip(model.parameters(), gradients_of(model, 0, place.rank), strict=True):
        p.grad.copy_(g)
    summed = [sum(parts) for parts in zip(*(gradients_of(model, 0, r) for r in range(place.world)), strict=True)]
    gradients.reduce()
    gradients.clip(0.3)
    square = torch.stack([bank.arrived().square().sum() for bank in gradients.banks]).sum()
    if place.world > 1:
        dist.all_reduce(square)
    square = square + gradients.small[:-1].square().sum()
    return {"before": float(torch.cat([g.flatten() for g in summed]).norm()), "after": float(square.sqrt())}


def check_all(place: Place, out: Path) -> None:
    rates = {"matrix_lr": 0.05, "momentum_steps": 3, "muon": "parallel"}
    configs = {
        "bare": OptimConfig(**rates),
        "decay": OptimConfig(**rates, matrix_decay=0.1, adam_decay=0.05),
        "clip": OptimConfig(**rates, grad_clip=0.3),
        "clip_above": OptimConfig(**rates, grad_clip=1e6),
    }
    results = {name: check(config, place) for name, config in configs.items()}
    results["norm"] = clipped_norm(place)
    if place.first:
        (out / f"parallel{place.world}.json").write_text(json.dumps(results))
