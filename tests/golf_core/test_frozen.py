"""Frozen blocks do not move in test-time training: nor do their rows of what all layers share."""

import pytest
import torch

from golf_core.config import TTTConfig
from golf_core.evaluate.chunk_ttt import evaluate_chunk_ttt
from tests.golf_core.test_evaluate import make_ledger, quiet, stream
from tests.golf_core.test_lora_ttt import trained

MODELS = {
    "own": [],
    "shared": ["model.kv_share=all", "model.value_residual=true"],
    "lent": ["model.kv_share=2", "model.attn_gate=dense"],
    "values": ["model.value_embed_width=8", "model.value_embed_last_n=3", "model.bigram_buckets=64"],
}


@pytest.mark.parametrize("blocks", [1, 3, 4, 5])
@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_a_frozen_block_moves(name, blocks):
    """Of 5 layers, 2 of them encoders, the first few keep every parameter, their rows of the skips' weights and their
    scales of values; who lends keys and values to a frozen block is frozen; all else moves."""
    model = trained(*MODELS[name])
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    config = TTTConfig(kind="chunk", chunk_tokens=40, lr=0.1, epochs=1, batch_seqs=2, freeze_blocks=blocks)
    evaluate_chunk_ttt(model, make_ledger(stream(90)), config, seq_len=16, stride=16, batch_seqs=3, progress=quiet)
    moved = {key for key, p in model.named_parameters() if not torch.equal(p, before[key])}
    frozen = {key for key in before if key.startswith(tuple(f"blocks.{i}." for i in range(blocks)))}
    frozen |= {f"ve_layer_scales.{layer - 2}" for layer in range(2, blocks)} if name == "values" else set()
    frozen |= {"skip_weights"} if blocks >= 4 else set()
    if blocks == 5:
        frozen |= {key for key in before if key.startswith("ve_shared.")}
    assert moved == set(before) - frozen
    rows = (model.skip_weights != before["skip_weights"]).any(dim=1)
    assert rows.tolist() == [blocks <= 2, blocks <= 3]
    for layer in range(blocks):
        owner = model.blocks[model.config.kv_owner(layer)].attn
        assert not owner.c_k.weight.requires_grad and not owner.c_v.weight.requires_grad
