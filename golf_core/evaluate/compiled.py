"""A compiled forward pass for the one shape that nearly all of an evaluation has: full batches of full windows, no
gradients. Every other shape stays eager, and so does learning at test time: each would be a compilation of its own,
inside the seconds of the evaluation.

The compiled pass stands in the instance's place of `GPT.hidden`. It must be taken out before anything hangs hooks on
the model's parts (lora_ttt.py): a compiled pass would not see them.
"""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from golf_core.model.gpt import GPT


class HotShape:
    """`hidden` of a model: compiled for ids of `shape` without gradients, else as it was."""

    def __init__(self, model: GPT, shape: tuple[int, int], backend: str | Callable[..., object]) -> None:
        self.shape, self.eager = shape, model.hidden
        self.compiled = torch.compile(on_same_weights(model).hidden, dynamic=False, backend=backend)

    def __call__(self, ids_BT: Tensor) -> Tensor:
        hot = tuple(ids_BT.shape) == self.shape and not torch.is_grad_enabled()
        return self.compiled(ids_BT) if hot else self.eager(ids_BT)


def on_same_weights(model: GPT) -> GPT:
    """Another model in the same memory, whose weights never ask for gradients. Learning freezes some of the model's
    between two scored chunks, for which a compiled pass would be compiled again; it moves them in place."""
    shared = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, shared | {id(b): b for b in model.buffers()})


def compile_hidden(model: GPT, batch: int, length: int, backend: str | Callable[..., object] = "inductor") -> None:
    """From here on `model.hidden` is compiled for (batch, length). Compilation happens now, on ids drawn at random."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab, (batch, length), generator=generator).to(model.tok_emb.weight.device)
    hot = HotShape(model, (batch, length), backend)
    with torch.inference_mode():  # as scoring runs: another mode would compile again
        hot(ids)
    model.hidden = hot


def eager_hidden(model: GPT) -> None:
    """`model.hidden` is the class's again, if ever it was not."""
    model.__dict__.pop("hidden", None)


def hot_backend(compiles: bool, device: torch.device) -> str | None:
    """What compiles an evaluation there, if anything: on a CPU it takes longer than it saves."""
    return "inductor" if compiles and device.type == "cuda" else None
