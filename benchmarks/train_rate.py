"""Training rate on a CPU: our step beside plain loops of the same model, in the same run.

    python benchmarks/train_rate.py [--rounds 7] [--heads 8]

Shape: 4 layers, width 128, sequence 256, batch 8,192 tokens, one thread. The peers are eager loops with the
library's attention (SDPA), its rms_norm and cross_entropy, in bf16 (what the challenge's scripts do) and in
fp32. All train with the same optimizers. Rates are tokens per CPU-second; rounds are interleaved and each
loop's best round counts, because other programs on the machine only ever slow a round down.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from golf_core.config import OptimConfig
from golf_core.config_model import ModelConfig
from golf_core.hardware import cpu_dtype
from golf_core.model.gpt import GPT, Block
from golf_core.optim.groups import Optimizers
from golf_core.optim.muon import Muon
from golf_core.process import keep_freed_memory

SEQ, BATCH = 256, 8192


class PlainGPT(GPT):
    """The same model and weights, written as the challenge's scripts write it."""

    def forward(self, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
        x = F.rms_norm(self.tok_emb(ids_BT).to(self.dtype), (self.config.width,))
        x0, skips = x, []
        for index, block in enumerate(self.blocks):
            if index >= self.encoder_layers and skips:
                x = x + self.skip_weights[index - self.encoder_layers].to(x.dtype) * skips.pop()
            x = plain_block(block, x, x0)
            if index < self.encoder_layers:
                skips.append(x)
        z = F.linear(F.rms_norm(x, (self.config.width,)), self.tok_emb.weight.to(x.dtype))
        logits = self.config.softcap * torch.tanh(z / self.config.softcap)
        return F.cross_entropy(logits.float().flatten(0, 1), targets_BT.flatten())


def rotate(x: Tensor, base: float) -> Tensor:
    half = torch.arange(0, x.size(-1), 2, dtype=torch.float32)
    angle = torch.outer(torch.arange(x.size(2), dtype=torch.float32), base ** (-half / x.size(-1)))
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


def plain_block(block: Block, x: Tensor, x0: Tensor) -> Tensor:
    attn, dtype, (b, t, c) = block.attn, x.dtype, x.shape
    mix = block.resid_mix.to(dtype)
    x = mix[0] * x + mix[1] * x0
    n = F.rms_norm(x, (c,))

    def heads(weight: Tensor, count: int) -> Tensor:
        return F.linear(n, weight.to(dtype)).view(b, t, count, attn.head_dim).transpose(1, 2)

    q, k, v = (
        heads(attn.c_q.weight, attn.heads),
        heads(attn.c_k.weight, attn.kv_heads),
        heads(attn.c_v.weight, attn.kv_heads),
    )
    q = rotate(F.rms_norm(q, (attn.head_dim,)), 10000.0) * attn.q_gain.to(dtype)[None, :, None, None]
    k = rotate(F.rms_norm(k, (attn.head_dim,)), 10000.0)
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    x = x + block.attn_scale.to(dtype) * F.linear(y.transpose(1, 2).reshape(b, t, c), attn.proj.weight.to(dtype))
    h = F.linear(F.rms_norm(x, (c,)), block.mlp.fc.weight.to(dtype)).relu().square()
    return x + block.mlp_scale.to(dtype) * F.linear(h, block.mlp.proj.weight.to(dtype))


def training_loop(kind: type[GPT], config: ModelConfig, dtype: torch.dtype, micro_batches: int) -> Callable[[], float]:
    """A function that takes one optimizer step on 8,192 tokens and returns its loss."""
    generator = torch.Generator().manual_seed(0)
    model = kind(config, {}, dtype)
    model.init_weights(generator)
    optimizers = Optimizers(model, OptimConfig(), Muon, 0, 1)
    gradients = optimizers.gradients
    tokens = torch.randint(0, config.vocab, (BATCH // SEQ, SEQ + 1), generator=generator)
    step = 0

    def take() -> float:
        nonlocal step
        gradients.zero()
        total = 0.0
        for part in tokens.chunk(micro_batches):
            loss = model(part[:, :-1], part[:, 1:]) / micro_batches
            loss.backward()
            total += float(loss.detach())
        optimizers.step(step, 1.0)
        step += 1
        return total

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--heads", type=int, default=8, help="query heads; half as many key heads")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = ModelConfig(layers=4, width=128, heads=arguments.heads, kv_heads=arguments.heads // 2)
    native = torch.bfloat16 if cpu_dtype() == "bf16" else torch.float32
    loops = {
        "plain loop, SDPA, bf16": training_loop(PlainGPT, config, torch.bfloat16, 1),
        "plain loop, SDPA, fp32": training_loop(PlainGPT, config, torch.float32, 1),
        f"golf_core, {cpu_dtype()} (this machine's choice)": training_loop(GPT, config, native, 8),
    }
    keep_freed_memory()  # for every loop
    losses = {name: take() for name, take in loops.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(arguments.rounds):
        for name, take in loops.items():
            begin = time.process_time()
            take()
            seconds[name].append(time.process_time() - begin)
    reference = BATCH / min(seconds["plain loop, SDPA, bf16"])
    print(f"{'loop':46} {'tokens/CPU-s':>13} {'median':>8} {'ratio':>6}  first loss")
    for name, times in seconds.items():
        best, median = BATCH / min(times), BATCH / statistics.median(times)
        print(f"{name:46} {best:13,.0f} {median:8,.0f} {best / reference:6.2f}  {losses[name]:.4f}")


if __name__ == "__main__":
    main()
