"""What belongs to the first blocks of a model, so that freezing them freezes all of it.

A block is more than the parameters below its name: rows of parameters that hold something for every layer (the skips'
weights), and scales kept in a list outside of the blocks. Who lends keys and values lies below who borrows them, and so
is frozen with it. A tensor that blocks above use too (the embeddings) is no frozen block's.
"""

from torch import Tensor

from golf_core.model.gpt import GPT


def freeze_blocks(model: GPT, blocks: int) -> list[tuple[Tensor, int]]:
    """Freeze the first `blocks` blocks. Returns what is frozen in part: a parameter and how many of its first rows,
    whose gradients must be zeroed before they are used."""
    for block in model.blocks[:blocks]:
        block.requires_grad_(False)
    for layer, scale in zip(model.value_layers, model.ve_layer_scales, strict=True):
        if layer < blocks:
            scale.requires_grad_(False)
    if model.value_layers and model.value_layers.stop <= blocks and model.ve_shared is not None:
        model.ve_shared.requires_grad_(False)
    rows = min(max(blocks - model.encoder_layers, 0), model.skip_weights.size(0))
    if rows == model.skip_weights.size(0):
        model.skip_weights.requires_grad_(False)
        return []
    return [(model.skip_weights, rows)] if rows else []


def zero_frozen_rows(rows: list[tuple[Tensor, int]]) -> None:
    """Take the gradients of frozen rows away."""
    for parameter, count in rows:
        if parameter.grad is not None:
            parameter.grad[:count] = 0
