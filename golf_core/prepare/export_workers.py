"""What every worker of an export makes for itself: the encoder, where it has the same SentencePiece as the driver."""

from collections.abc import Callable
from importlib.metadata import version

from golf_core.data.shards import DataError
from golf_core.prepare.blocks import TextBlock
from golf_core.prepare.encode import BlockEncoder, EncodedBlock


def encode_function(model: bytes, sentencepiece_version: str) -> Callable[[TextBlock], EncodedBlock]:
    """Raises DataError where this machine has another SentencePiece: its tokens could be others."""
    if (here := version("sentencepiece")) != sentencepiece_version:
        raise DataError(
            f"a worker has sentencepiece {here}, this process {sentencepiece_version}; tokens must not depend on where "
            "they were made: install the same version on every node"
        )
    return BlockEncoder(model).encode
