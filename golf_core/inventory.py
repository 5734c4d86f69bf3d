"""What a config builds, counted without building it: tensors, parameters, and an estimate of the artifact's bytes.

A plan must not wait for torch. The tests hold this list to the state dict of the model itself, for every recipe and
every switch.
"""

import math
from dataclasses import dataclass

from golf_core.config import Config
from golf_core.config_model import GATE_WINDOW, ModelConfig
from golf_core.fields import require
from golf_core.routes import QAT_ROLES, estimated_bits, tensor_role, tensor_route

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Inventory:
    parameters: int
    model_bytes: int  # estimate of artifact.bin


def tensor_shapes(model: ModelConfig) -> Shapes:
    """Name and shape of every tensor of the state dict."""
    d, kv, hidden = model.width, model.kv_width, model.mlp_width
    encoder = model.layers // 2
    found: Shapes = {"tok_emb.weight": (model.vocab, d), "skip_weights": (min(encoder, model.layers - encoder), d)}
    for layer in range(model.layers):
        block = f"blocks.{layer}."
        found |= {
            f"{block}attn_scale": (d,),
            f"{block}mlp_scale": (d,),
            f"{block}resid_mix": (2, d),
            f"{block}attn.q_gain": (model.heads,),
            f"{block}attn.c_q.weight": (d, d),
            f"{block}attn.proj.weight": (d, d),
            f"{block}mlp.fc.weight": (hidden, d),
            f"{block}mlp.proj.weight": (d, hidden),
        }
        if model.kv_owner(layer) == layer:
            found |= {f"{block}attn.c_k.weight": (kv, d), f"{block}attn.c_v.weight": (kv, d)}
        if model.attn_gate != "none":
            columns = {"out": GATE_WINDOW, "sparse": GATE_WINDOW}.get(model.attn_gate, d)
            found[f"{block}attn.attn_gate.weight"] = (model.heads, columns)
        if model.attn_gate == "dense":
            found[f"{block}attn.attn_gate.bias"] = (model.heads,)
        if model.value_residual and layer:
            found[f"{block}attn.vr_lambda.weight"] = (2,)
    return found | _embedding_shapes(model)


def _embedding_shapes(model: ModelConfig) -> Shapes:
    found: Shapes = {}
    if model.smear == "v1":
        found["smear.gate"] = (model.width,)
    if model.smear == "v2":
        found |= {"smear.gate": (1, GATE_WINDOW), "smear.strength": (1,)}
    for name, buckets, width in (
        ("bigram", model.bigram_buckets, model.bigram_width),
        ("trigram", model.trigram_buckets, model.trigram_width),
    ):
        if buckets:
            found |= {f"{name}.embed.weight": (buckets, width), f"{name}.scale": ()}
            if width != model.width:
                found[f"{name}.proj.weight"] = (model.width, width)
    if model.value_embed_width:
        found |= {
            "ve_shared.embed.weight": (model.vocab, model.value_embed_width),
            "ve_shared.proj.weight": (model.kv_width, model.value_embed_width),
            "ve_shared.scale": (),
        }
        found |= {f"ve_layer_scales.{j}": () for j in range(model.value_embed_last_n)}
    return found


def take_inventory(config: Config) -> Inventory:
    """Parameters and estimated bytes of the artifact, code not counted. Raises ConfigError for a switch that would do
    nothing for this model."""
    parameters, bits = 0, 0.0
    shapes = tensor_shapes(config.model)
    refuse_idle_switches(config, shapes)
    for name, shape in shapes.items():
        parameters += math.prod(shape)
        bits += estimated_bits(name, shape, config)
    return Inventory(parameters, round(bits / 8))


def refuse_idle_switches(config: Config, shapes: Shapes) -> None:
    """What is turned on must meet a tensor: a run that says otherwise in its log misleads."""
    quant = config.quant
    grids = {
        name: route.bits
        for name, shape in shapes.items()
        if (route := tensor_route(name, shape, quant, config.model.layers)).kind == "grid"
    }
    rounded = [name for name in grids if tensor_role(name) in QAT_ROLES[config.qat.tensors]]
    require(
        config.qat.kind == "none" or bool(rounded),
        f"qat.tensors={config.qat.tensors!r} has no tensor on a grid in this model: with quant.keep_numel="
        f"{quant.keep_numel} all of them are shipped as fp16; lower it, or set qat.kind=none",
    )
    require(
        not quant.nibbles or 4 in grids.values(),
        "quant.nibbles=true packs 4-bit codes, but no tensor of this model is shipped with 4 bits "
        f"(quant.keep_numel={quant.keep_numel})",
    )
    for part in quant.kept_names:
        require(
            any(part in name for name in shapes),
            f"quant.keep_fp16 names {part!r}, which is in no tensor of this model; names are like "
            f"{next(name for name in shapes if '.c_k.' in name)}; set quant.keep_fp16= to keep none",
        )
