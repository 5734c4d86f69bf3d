"""What a tensor is, from its name, and how it is stored: the one table that export, training in its image and size
estimates share. No torch here.

Names are those of the state dict: `tok_emb.weight`, `blocks.3.attn.c_q.weight`, `bigram.proj.weight`, ...
"""

import math
import re
from dataclasses import dataclass

from golf_core.config import Config
from golf_core.config_quant import QuantConfig

CONTROL_NAMES = (
    *("attn_scale", "mlp_scale", "resid_mix", "q_gain", "skip_weights"),
    *("smear", "attn_gate", "vr_lambda", "ve_layer_scales"),
)
TABLE_NAMES = ("bigram.", "trigram.", "ve_shared.")
# What `qat.tensors` means.
QAT_ROLES = {"all": ("embed", "table", "attn", "mlp"), "matrices": ("attn", "mlp"), "mlp": ("mlp",)}


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


# Bits a weight after compression, seen in published artifacts: int8 with zlib (the naive baseline), int6 and int5
# with zstd (record 2026-03-20, 10 layers); int7 and int4 by the entropy of normal rows.
BITS_SEEN = {8: 7.36, 7: 6.4, 6: 5.3, 5: 4.25, 4: 3.4}
# Two things that make codes smaller, and with them the file (#347 and #488 against the above): a floor under the
# scale where decay keeps weights small, and a scale for several rows.
FLOOR_BITS, GROUP_BITS = 0.78, 0.5


def estimated_bits(name: str, shape: tuple[int, ...], config: Config) -> float:
    """Compressed size of one tensor in bits, about; trained weights decide."""
    quant = config.quant
    count, route = math.prod(shape), tensor_route(name, shape, quant, config.model.layers)
    if route.kind != "grid":
        return count * {"fp32": 32.0, "fp16": 15.0}[route.kind]
    scales = 16 * math.ceil(shape[0] / quant.group_rows)
    if quant.clip == "sd":
        deviations = quant.sd_embed if tensor_role(name) == "embed" else quant.sd_matrix
        top = 2 ** (route.bits - 1) - 1
        return scales + count * math.log2(math.sqrt(2 * math.pi * math.e) * top / deviations)
    bits = BITS_SEEN[route.bits]
    bits -= FLOOR_BITS if quant.legacy_scale_floor and config.optim.matrix_decay else 0.0
    bits -= GROUP_BITS if quant.group_rows > 1 else 0.0
    return scales + count * bits
