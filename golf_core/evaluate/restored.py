"""The model of an artifact, and nothing else of the training that made it."""

from pathlib import Path

import torch

from golf_core.artifact.container import ArtifactError, decode_artifact
from golf_core.config import Config
from golf_core.model.gpt import GPT, Parts
from golf_core.quant.rows import restore_state


def restored_model(
    config: Config, parts: Parts, artifact: Path, dtype: torch.dtype, device: torch.device
) -> tuple[GPT, bytes]:
    """The model in fp32, and the artifact's bytes. Raises ArtifactError."""
    try:
        data = Path(artifact).read_bytes()
    except OSError as error:
        raise ArtifactError(f"{artifact} cannot be read: {error.strerror}") from None
    codec = parts["artifact.codec"](config.artifact.level)
    state = restore_state(decode_artifact(data, codec, parts.get("quant.nibbles")))
    model = GPT(config.model, parts, dtype, config.evaluate.seq_len)
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in state.items()}
    if wanted != found:
        odd = sorted(set(wanted.items()) ^ set(found.items()))[0]
        raise ArtifactError(f"{artifact} does not fit this model: {odd[0]} with shape {odd[1]} is in only one of them")
    model.load_state_dict(state)
    return model.to(device), data
