"""What a config builds, without data: counted, and rehearsed at full size on any machine before one is rented."""

import math
import time
import typing

import torch

from golf_core.artifact.container import decode_artifact, encode_artifact
from golf_core.config import Config
from golf_core.model.gpt import GPT, Parts
from golf_core.process import Place
from golf_core.quant.rows import Quantizer, restore_state
from golf_core.routes import estimated_bits

REHEARSED_TOKENS = 256  # at most, of one sequence


class RehearsalFailed(Exception):
    """A part of the recipe does not do its work; the message says which."""


def describe(config: Config, parts: Parts) -> dict[str, typing.Any]:
    """What the config builds, without data: parameters counted from the model, and an estimate of the artifact.

    The estimate goes by what compressed weights of each grid have taken (routes.py).
    """
    with torch.device("meta"):
        model = GPT(config.model, parts)
    bits = 0.0
    for name, tensor in model.state_dict().items():
        bits += estimated_bits(name, tuple(tensor.shape), config)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "model_bytes_estimate": round(bits / 8),
        "tensors": len(model.state_dict()),
    }


def rehearse(config: Config, parts: Parts, place: Place, code_bytes: int) -> dict[str, typing.Any]:
    """Build the model at full size, take the gradients of one short random sequence, round, compress, reload, compare.

    Matrices that start at zero are filled first, so that the bytes are those of a model that has learned something;
    random weights compress worse than trained ones. Rounding that needs calibration rounds to the nearest here.
    """
    begin = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    model = GPT(config.model, parts, place.dtype, config.train.seq_len)
    model.init_weights(generator)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2 and not p.any():
                p.normal_(0.0, p.size(1) ** -0.5, generator=generator)
    model.to(place.device)
    length = min(config.train.seq_len, REHEARSED_TOKENS)
    ids = torch.randint(0, config.model.vocab, (1, length + 1), generator=generator).to(place.device)
    loss = model(ids[:, :-1], ids[:, 1:])
    loss.backward()
    if not math.isfinite(float(loss.detach())):
        raise RehearsalFailed(f"the first loss is {float(loss.detach())}")
    without = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    if without:
        raise RehearsalFailed(f"{without[0]} has no finite gradient")
    codec, packing = parts["artifact.codec"](config.artifact.level), parts.get("quant.nibbles")
    stored = Quantizer(config.quant, config.model.layers, parts).export(model.state_dict())
    if prune := parts.get("artifact.target_bytes"):
        target = config.artifact.target_bytes
        stored, data, _ = prune(stored, lambda s: encode_artifact(s, codec, packing), code_bytes, target, packing)
    else:
        data = encode_artifact(stored, codec, packing)
    reloaded, wanted = restore_state(decode_artifact(data, codec, packing)), restore_state(stored)
    if changed := [name for name in wanted if not torch.equal(reloaded[name], wanted[name])]:
        raise RehearsalFailed(f"{changed[0]} comes back from the artifact with other values")
    return {
        **describe(config, parts),
        "loss": float(loss.detach()),
        "model_bytes": len(data),
        "code_bytes": code_bytes,
        "total_bytes": len(data) + code_bytes,
        "codec": codec.name,
        "seconds": time.perf_counter() - begin,
    }
