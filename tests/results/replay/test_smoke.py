"""The smoke test of a script: imported and never run, stood in for what only GPUs have, and shut in while it is."""

import pytest

from results.replay.sandbox import LEVELS, Limits, SandboxError
from results.replay.smoke import smoke

ENVIRONMENT = """
import os
class Hyperparameters:
    num_layers = int(os.environ.get("NUM_LAYERS", 11))
    model_dim = int(os.environ.get("MODEL_DIM", "512"))
    vocab_size = 8192
class Block:
    num_layers = 3
"""
FROZEN = """
from dataclasses import dataclass, field
@dataclass(frozen=True)
class ModelConfig:
    layers: int = 11
    width: int = 512
    vocab: int = 8192
@dataclass(frozen=True)
class Config:
    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
CONFIG = Config("demo", ModelConfig(layers=2, width=128, vocab=1024))
if __name__ == "__main__":
    raise SystemExit("it was run")
"""
LOOSE = "config = {'n_embd': 640, 'n_layer': '9'}\nVOCAB_SIZE = 1024\n"
KERNELS = """
from flash_attn_interface import flash_attn_func as attend
import cupy, flash_attn.layers.rotary as rotary
@cupy.fuse
def kernel(x: cupy.ndarray):
    pass
@cupy.RawModule(code="", options=("-O3",)).get("f")
def tuned(x):
    pass
class Attention(rotary.RotaryEmbedding):
    pass
model_dim = 384 if callable(kernel) and callable(attend) else 0
"""


def written(tmp_path, text):
    path = tmp_path / "train_gpt.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text, expected",
    [(ENVIRONMENT, (512, 11, 8192)), (FROZEN, (128, 2, 1024)), (LOOSE, (640, 9, 1024)), (KERNELS, (384, None, None))],
    ids=["environment", "frozen", "loose", "kernels"],
)
def test_what_a_script_says_of_its_model_is_found(tmp_path, text, expected):
    """Width, layers and vocabulary, from what was built before its class, with the place of each."""
    told = smoke(written(tmp_path, text))
    assert told.imported, told
    assert (told.width, told.layers, told.vocabulary) == expected and told.code_bytes == len(text)
    assert told.import_seconds is not None and told.import_seconds > 0
    assert any(told.sandbox.startswith(level) for level in LEVELS)
    assert told.stand_ins == (("flash_attn_interface", "cupy", "flash_attn") if text == KERNELS else ())
    assert told.outside == told.network == ()


@pytest.mark.whole
@pytest.mark.parametrize("first, second", [("torch", "triton"), ("triton", "torch")])
def test_torch_does_not_take_a_stand_in_for_triton(tmp_path, first, second):
    """Whichever is imported first: torch looks for it by itself, and would use it."""
    script = f"import {first}, {second}\nimport triton.language as tl\nimport torch._dynamo\n"
    script += "@triton.jit\ndef kernel(x, N: tl.constexpr):\n    pass\n"
    script += "step = torch.compile(torch.nn.Linear(4, 4), backend='eager')\nmodel_dim = 4\n"
    told = smoke(written(tmp_path, script))
    assert told.width == 4 and told.stand_ins == ("triton",), told


@pytest.mark.parametrize(
    "text, error",
    [
        ("x = 1\nimport no_such_package\n", "No module named 'no_such_package' (line 2)"),
        ("x = 1\n\nif True print(3)\n", "(line 3)"),
        ("raise SystemExit(3)", "SystemExit: 3 (line 1)"),
        ("import os; print('last words'); os._exit(3)", "its process ended with 3: last words"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its process ended with"),
    ],
    ids=["missing", "syntax", "exit", "hard exit", "killed"],
)
def test_a_script_that_cannot_be_imported_says_why(tmp_path, text, error):
    """With the line, where it is one of the script."""
    told = smoke(written(tmp_path, text))
    assert not told.imported and error in told.error and told.width is None, told


def test_a_script_is_shut_in_while_it_is_imported(tmp_path):
    """What it asks for is told, what it writes is gone, what lies beside it is imported, and its time ends."""
    (tmp_path / "secret.bin").write_text("s")
    (tmp_path / "beside.py").write_text("n_embd = 96\n")
    reach = f"import beside\nmodel_dim = beside.n_embd\nfor path in ({str(tmp_path / 'secret.bin')!r}, __file__):\n"
    reach += "    try:\n        open(path, 'a')\n        model_dim = 1\n    except OSError:\n        pass\n"
    told = smoke(written(tmp_path, reach))
    assert told.width == 96 and told.outside == (str(tmp_path / "secret.bin"),), told
    endless = smoke(written(tmp_path, "while True: pass"), Limits(seconds=1.0))
    assert endless.error == "its time was over"
    with pytest.raises(SandboxError, match="there is no file"):
        smoke(tmp_path / "none.py")
