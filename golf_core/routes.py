"""What a tensor is, from its name, and how it is stored: the one table that export, training in its image and size
estimates share. No torch here.

Names are those of the state dict: `tok_emb.weight`, `blocks.3.attn.c_q.weight`, `bigram.proj.weight`, ...
"""

import math
import re
from dataclasses import dataclass

from golf_core.config_quant import QuantConfig

CONTROL_NAMES = (
    *("attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weights"),
    *("smear", "attn_gate", "vr_lambda", "ve_layer_scales"),
)
TABLE_NAMES = ("bigram.", "trigram.", "ve_shared.")


@dataclass(frozen=True)
class Route:
    """How one tensor is stored: "fp32", "fp16", or "grid" with codes of `bits`."""

    kind: str
    bits: int = 0


def is_control(name: str) -> bool:
    """Whether a parameter is one of the small fp32 tensors that steer the model and are never quantized."""
    return any(control in name for control in CONTROL_NAMES)


def tensor_role(name: str) -> str:
    """ "embed", "table", "attn", "mlp" or "control"."""
    if name.startswith("tok_emb."):
        return "embed"
    if is_control(name):
        return "control"
    if name.startswith(TABLE_NAMES):
        return "table"
    return "mlp" if ".mlp." in name else "attn"


def tensor_layer(name: str) -> int | None:
    """The block that a tensor belongs to."""
    found = re.match(r"blocks\.(\d+)\.", name)
    return int(found[1]) if found else None


def tensor_route(name: str, shape: tuple[int, ...], quant: QuantConfig, layers: int) -> Route:
    """The first that holds: vectors and control tensors fp32; small or named tensors fp16; else the role's grid."""
    role = tensor_role(name)
    if len(shape) < 2 or role == "control":
        return Route("fp32")
    if math.prod(shape) <= quant.keep_numel or any(part in name for part in quant.kept_names):
        return Route("fp16")
    bits = {
        "embed": quant.embed_bits,
        "table": quant.table_bits,
        "attn": quant.attn_bits,
        "mlp": quant.mlp_bits,
    }[role]
    layer = tensor_layer(name)
    if layer is not None and not quant.edge_layers <= layer < layers - quant.edge_layers:
        bits = quant.edge_bits
    return Route("fp16") if bits == 16 else Route("grid", bits)


def estimated_bits(route: Route, shape: tuple[int, ...], group_rows: int = 1) -> float:
    """Compressed size of one tensor in bits: for a grid the entropy that codes of trained rows come close to."""
    count = math.prod(shape)
    if route.kind == "grid":
        return count * (route.bits - 0.75) + 16 * math.ceil(shape[0] / group_rows)
    return count * {"fp32": 32.0, "fp16": 15.0}[route.kind]
