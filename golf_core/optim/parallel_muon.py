"""Parallel Muon: every process orthogonalizes its share of the matrices, and messages travel while others compute.

All matrices of one shape are a bank: their gradients lie side by side in the flat buffer, filled up with zero
matrices to a multiple of the number of processes. Each bank is reduce-scattered, so that a process holds the summed
gradient of its share alone; after Newton-Schulz the updates are all-gathered while the next bank is computed. A bank
is a place for gradients and updates, not another model: parameters keep their names and their storage, and momentum
belongs to the optimizer, which can reset it. Gradients stay fp32 on their way.

Source: openai/parameter-golf #399, #549. Unlike there, clipping uses the norm of the summed gradients, the same on
every process. The plain form (muon.py) computes the same.

Shapes: S stacked matrices of one shape, M rows, N columns.
"""

import typing

import torch
import torch.distributed as dist
from torch import Tensor

from golf_core.optim.gradients import FlatGradients, view_gradients
from golf_core.optim.newton_schulz import orthogonalize, shape_gain

# torch 2.13 renamed the collectives on whole tensors, and warns of the old names.
reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class MatrixBank:
    """Matrices of one shape: their gradients, this process's share of the momentum, and everyone's updates."""

    def __init__(self, params: list[Tensor], dtype: torch.dtype, rank: int, world: int) -> None:
        self.params = params
        share = -(-len(params) // world)
        self.shape_SMN = (share * world, *params[0].shape)
        self.mine = slice(rank * share, (rank + 1) * share)
        device = params[0].device
        self.momentum_SMN = torch.zeros((share, *params[0].shape), device=device)
        self.updates_SMN = torch.zeros(self.shape_SMN, dtype=dtype, device=device)
        self.gradients_SMN = torch.empty(0)  # a piece of the flat buffer
        self.arriving: typing.Any = None  # the reduce-scatter under way

    @property
    def numel(self) -> int:
        return self.updates_SMN.numel()

    def take(self, flat: Tensor) -> None:
        """Keep the gradients in this piece of the flat buffer."""
        self.gradients_SMN = flat.view(self.shape_SMN)
        view_gradients(self.params, flat[: sum(p.numel() for p in self.params)])

    @property
    def own_gradients(self) -> Tensor:
        return self.gradients_SMN[self.mine]

    def arrived(self) -> Tensor:
        """The summed gradients of this process's share."""
        if self.arriving is not None:
            self.arriving.wait()
            self.arriving = None
        return self.own_gradients


class BankedGradients(FlatGradients):
    """The flat buffer with the banks in front, largest first; then everything small, and rank 0's clock."""

    def __init__(self, params: list[Tensor], banks: list[MatrixBank], rank: int, world: int) -> None:
        self.params, self.banks, self.rank, self.world = params, banks, rank, world
        banked = {id(p) for bank in banks for p in bank.params}
        others = [p for p in params if id(p) not in banked]
        sizes = [*(bank.numel for bank in banks), sum(p.numel() for p in others) + 1]
        self.buffer = torch.zeros(sum(sizes), device=params[0].device)
        *pieces, self.small = self.buffer.split(sizes)
        for bank, piece in zip(banks, pieces, strict=True):
            bank.take(piece)
        view_gradients(others, self.small[:-1])

    def reduce(self) -> None:
        """Start all sums; on return only the small gradients and the clock are there. They go first, because Adam
        and the clock wait for them and a GPU's messages travel in order."""
        if self.world == 1:
            return
        small = dist.all_reduce(self.small, async_op=True)
        for bank in self.banks:  # in place: a share's sum lies where its own part lay
            bank.arriving = reduce_scatter(bank.own_gradients, bank.gradients_SMN, async_op=True)
        small.wait()

    def clip(self, limit: float) -> None:
        """By the norm over all processes' shares; one number is sent, with the small gradients counted once."""
        if limit <= 0:
            return
        shares, small = [bank.arrived() for bank in self.banks], self.small[:-1]
        counted = [*shares, small] if self.rank == 0 else shares
        square = torch.stack([torch.linalg.vector_norm(g) for g in counted]).square().sum()
        if self.world > 1:
            dist.all_reduce(square)
        torch._foreach_mul_([*shares, small], torch.clamp(limit / (square.sqrt() + 1e-6), max=1.0))


class ParallelMuon:
    """Muon by banks. It must make the buffer of the gradients (`flat_gradients`) before its first step."""

    def __init__(
        self, params: list[Tensor], *, decay: float, newton_schulz_steps: int, dtype: torch.dtype, rank: int, world: int
    ) -> None:
        self.decay, self.steps, self.dtype, self.rank, self.world = decay, newton_schulz_steps, dtype, rank, world
        shapes: dict[torch.Size, list[Tensor]] = {}
        for p in params:
            if p.ndim != 2:
                raise ValueError(f"Muon takes matrices, not a parameter of shape {tuple(p.shape)}")
            shapes.setdefault(p.shape, []).append(p)
        banks = [MatrixBank(alike, dtype, rank, world) for alike in shapes.values()]
        self.banks = sorted(banks, key=lambda bank: -bank.numel)

    def flat_gradients(self, params: list[Tensor]) -> BankedGradients:
        """The buffer for the gradients of all parameters of the model: how this optimizer wants them laid out."""
        return BankedGradients(params, self.banks, self.rank, self.world)

    def reset(self) -> None:
        """Forget every step."""
        for bank in self.banks:
            bank.momentum_SMN.zero_()

    @torch.no_grad()
    def step(self, lr: float, momentum: float) -> None:
        under_way: tuple[MatrixBank, typing.Any] | None = None
        for bank in self.banks:
            grad_SMN, m_SMN = bank.arrived(), bank.momentum_SMN
            m_SMN.mul_(momentum).add_(grad_SMN)
            nesterov_SMN = grad_SMN.add(m_SMN, alpha=momentum)
            own = bank.updates_SMN[bank.mine]
            own.copy_(orthogonalize(nesterov_SMN, self.steps, self.dtype))  # of zeros, at the end: zeros
            gathering = all_gather(bank.updates_SMN, own, async_op=True) if self.world > 1 else None
            if under_way:
                self._apply(*under_way, lr)
            under_way = bank, gathering
        if under_way:
            self._apply(*under_way, lr)

    def _apply(self, bank: MatrixBank, gathering: typing.Any, lr: float) -> None:
        if gathering is not None:
            gathering.wait()
        params = bank.params
        if self.decay:
            torch._foreach_mul_(params, 1 - lr * self.decay)
        updates = bank.updates_SMN[: len(params)].to(params[0].dtype).unbind()
        torch._foreach_add_(params, list(updates), alpha=-lr * shape_gain(*params[0].shape))
