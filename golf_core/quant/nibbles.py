"""4-bit codes, two a byte: row-wise, the even column in the high half, each code plus 8. A row of odd length ends with
a zero half; the container holds the shape."""

import torch
import torch.nn.functional as F
from torch import Tensor


def pack_nibbles(codes_MN: Tensor) -> Tensor:
    """int8 codes in [-8, 7] to bytes (M, ceil(N / 2))."""
    shifted = (F.pad(codes_MN, (0, codes_MN.size(1) % 2), value=-8) + 8).to(torch.uint8)
    return shifted[:, ::2] << 4 | shifted[:, 1::2]


def unpack_nibbles(packed: Tensor, columns: int) -> Tensor:
    """What `pack_nibbles` packed, of rows that had so many columns."""
    halves = torch.stack((packed >> 4, packed & 15), dim=2).to(torch.int8) - 8
    return halves.flatten(1)[:, :columns].contiguous()


class Nibbles:
    """The packing as the container takes it."""

    bits = 4
    pack = staticmethod(pack_nibbles)
    unpack = staticmethod(unpack_nibbles)
