"""Pruning to a budget of bytes: codes of +-1 become 0, the cheapest first, until code and weights fit.

Source: openai/parameter-golf #609, #1019, which recompress everything for each of some 20 probes. Here a fast codec is
searched, and the real one called at most three times: as it is, a cautious guess, and a closer one. What is shipped
was measured by the real codec. All bytes are decimal.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from golf_core.artifact.container import ARTIFACT_HEADER, Packing, encode_artifact
from golf_core.quant.rows import StoredTensor

# Probes are DEFLATE. What zeros save of zstd's, lzma's and brotli's size is close to what they save of a count of bytes
# alone (0.8 to 1.3 of it; codes have no repeats to speak of); zlib's own search for repeats saves much less.
PROBE_STRATEGIES = {b"zlib": zlib.Z_DEFAULT_STRATEGY}  # by the codec; else:
PROBE_STRATEGY = zlib.Z_HUFFMAN_ONLY
PROBE_BYTES, PROBE_PIECE = 1 << 22, 1 << 13  # a probe compresses so much of the payload, in pieces from all over it
PROBE_STEPS = 1024  # the count is searched to this part of the candidates
TRUSTED_SAVINGS = 0.7  # of what a probe saves: the first guess
CAUTIOUS_SHARE, CLOSER_SHARE = 0.002, 0.0002  # of the size, saved in addition: sizes do not fall evenly
CLOSER_MARGIN = 0.02  # of the bytes to be saved: what the second guess may be wrong by

Stored = Mapping[str, StoredTensor]


@dataclass(frozen=True)
class BudgetReport:
    target_bytes: int
    before_bytes: int  # code and weights, unpruned
    total_bytes: int  # code and weights, as shipped
    pruned: int
    candidates: int
    real_calls: int

    def lines(self) -> list[str]:
        """What the log says."""
        said = f"export_budget: target={self.target_bytes}B current={self.before_bytes}B pruned={self.pruned}"
        if self.pruned:
            said += f" of {self.candidates} total={self.total_bytes}B"
        if self.total_bytes <= self.target_bytes:
            return [said]
        return [
            said,
            f"warning: export_budget: {self.total_bytes - self.target_bytes} bytes over the target with every code of "
            "+-1 zeroed; use fewer bits, a smaller model, or a larger artifact.target_bytes",
        ]


def prune_to_budget(
    stored: Stored,
    encode: Callable[[Stored], bytes],
    code_bytes: int,
    target_bytes: int,
    packing: Packing | None = None,
) -> tuple[Stored, bytes, BudgetReport]:
    """`stored` with as few +-1 codes zeroed as make code and artifact fit, its bytes, and what was done. Nothing is
    touched where it fits; where nothing makes it fit, all of them are zeroed. `encode` is the real codec;
    `packing` the one that it uses."""
    codes = _PrunedCodes(stored, packing)
    sizes: dict[int, int] = {}
    shipped: dict[int, bytes] = {}

    def measure(count: int) -> bool:
        shipped[count] = encode(codes.pruned(count))
        sizes[count] = code_bytes + len(shipped[count])
        return sizes[count] <= target_bytes

    if not measure(0):
        everything, over = codes.candidates, sizes[0] - target_bytes
        size, codec = len(shipped[0]), ARTIFACT_HEADER.unpack_from(shipped[0])[1].rstrip(b"\0")
        codes.strategy = PROBE_STRATEGIES.get(codec, PROBE_STRATEGY)
        first = codes.smallest_count(over / size / TRUSTED_SAVINGS + CAUTIOUS_SHARE)
        if first and not measure(first) and first < everything:
            measure(everything)
        elif first and sizes[first] <= target_bytes and codes.savings(first) > 0:
            trusted = (sizes[0] - sizes[first]) / size / codes.savings(first)
            closer = codes.smallest_count((over * (1 + CLOSER_MARGIN) / size + CLOSER_SHARE) / trusted)
            if closer < first:
                measure(closer)
    fitting = [count for count, size in sizes.items() if size <= target_bytes]
    chosen = min(fitting) if fitting else max(sizes)
    report = BudgetReport(target_bytes, sizes[0], sizes[chosen], chosen, codes.candidates, len(sizes))
    return codes.pruned(chosen), shipped[chosen], report


class _SampleCodec:
    """No codec: pieces of the payload, as far apart as makes PROBE_BYTES."""

    name = "sample"

    def compress(self, data: bytes) -> bytes:
        step = max(PROBE_PIECE, len(data) * PROBE_PIECE // PROBE_BYTES)
        return b"".join(data[low : low + PROBE_PIECE] for low in range(0, len(data), step))


class _PrunedCodes:
    """The grid codes of `stored` laid end to end, and where the +-1 are, by rising scale: what zeroing one costs is
    its scale squared. Among equals the first in the artifact's order."""

    def __init__(self, stored: Stored, packing: Packing | None) -> None:
        self.stored, self.packing = stored, packing
        self.grids = [name for name, s in stored.items() if s.scale is not None and s.codes.numel()]
        self.flat = np.concatenate([np.zeros(0, np.int8), *(stored[n].codes.numpy().reshape(-1) for n in self.grids)])
        places = np.flatnonzero(np.abs(self.flat) == 1)
        # Scales are not negative, so that the bits of a half sort as it does, and sixteen bits sort fast.
        cost = np.concatenate([np.zeros(0, np.uint16), *(_scale_bits(stored[n]) for n in self.grids)])
        self.places = places[np.argsort(cost[places], kind="stable")]
        self.strategy = PROBE_STRATEGY
        self.probed: dict[int, int] = {}

    @property
    def candidates(self) -> int:
        return len(self.places)

    def pruned(self, count: int) -> dict[str, StoredTensor]:
        """The tensors with the cheapest `count` candidates zeroed."""
        flat = self.flat.copy()
        flat[self.places[:count]] = 0
        result, offset = dict(self.stored), 0
        for name in self.grids:
            s = self.stored[name]
            codes = torch.from_numpy(flat[offset : offset + s.codes.numel()]).view(s.shape)
            result[name] = replace(s, codes=codes)
            offset += s.codes.numel()
        return result

    def savings(self, count: int) -> float:
        """The share of a probe's size that zeroing `count` saves."""
        for k in (0, count):
            if k not in self.probed:
                sample = encode_artifact(self.pruned(k), _SampleCodec(), self.packing)
                deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, self.strategy)
                self.probed[k] = len(deflate.compress(sample)) + len(deflate.flush())
        return 1 - self.probed[count] / self.probed[0]

    def smallest_count(self, wanted: float) -> int:
        """The fewest candidates, to one PROBE_STEPS-th of them, that save that share of a probe; else all."""
        low, high = 0, self.candidates
        while high - low > max(1, self.candidates // PROBE_STEPS):
            middle = (low + high) // 2
            low, high = (low, middle) if self.savings(middle) >= wanted else (middle, high)
        return high


def _scale_bits(s: StoredTensor) -> np.ndarray:
    """The scale of every element of a tensor, as the bits of its fp16."""
    bits = s.scale.numpy().view(np.uint16).repeat(s.group_rows)[: s.shape[0]]
    return bits.repeat(s.shape[1])
