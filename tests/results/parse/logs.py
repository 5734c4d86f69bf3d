"""Logs of our own writing in the shapes that the race's trainers print. Values are made up; shapes are real."""

import math
import typing
from dataclasses import dataclass

RATIO = 2.4423 * math.log(2)  # val_loss over val_bpb of a tokenizer with 2.4423 bytes a token
RULE = "=" * 100

# What a trainer prints of itself: templates, an example in a docstring, and a rule in a comment.
SOURCE = f'''"""
The example trainer. A run ends with lines like

final_int8_zlib_roundtrip_exact val_loss:1.11111111 val_bpb:0.65432109
seed:999
"""
import os
# {RULE}

class Model:
    def report(self):
        log0(f"final_int8_zlib_roundtrip_exact val_loss:{{q_val_loss:.8f}} val_bpb:{{q_val_bpb:.8f}}")
        log0("final_int6_sliding_window_exact val_loss:1.0 val_bpb:0.5000")
        log0(f"step:{{step}}/{{args.iterations}} val_loss:{{val_loss:.4f}} val_bpb:{{val_bpb:.4f}}")
'''


@dataclass(frozen=True)
class Truth:
    """What a log of `old` or `new` must be read as."""

    seed: int = 1337
    steps: int = 7179
    step_avg_ms: float = 83.59
    train_time_s: float = 600.128
    pre_quant_bpb: float = 1.1369
    roundtrip_bpb: float = 1.14518023
    sliding_bpb: float = 1.12165091
    post_ttt_bpb: float = 1.11922988
    model: int = 15_887_928
    code: int = 89_458
    params: int = 26_928_220

    def expected(self) -> dict[str, typing.Any]:
        return {
            "seed": self.seed,
            "steps": self.steps,
            "step_avg_ms": self.step_avg_ms,
            "train_time_s": self.train_time_s,
            "pre_quant_bpb": self.pre_quant_bpb,
            "roundtrip_bpb": self.roundtrip_bpb,
            "sliding_bpb": self.sliding_bpb,
            "pre_ttt_bpb": self.sliding_bpb,
            "post_ttt_bpb": self.post_ttt_bpb,
            "ttt_gain": round(self.post_ttt_bpb - self.sliding_bpb, 12),
            "ttt_time_s": 410.268,
            "ttt_loop_s": 409.8,
            "eval_time_s": 410.268,
            "artifact_bytes": self.model + self.code,
            "code_bytes": self.code,
            "model_params": self.params,
            "world_size": 8,
            "gpu": "NVIDIA H100 80GB HBM3",
            "torch": "2.9.1+cu128",
            "final_stage": "ttt",
            "final_bpb": self.post_ttt_bpb,
            "final_val_loss": loss(self.post_ttt_bpb),
        }


def loss(bpb: float) -> float:
    return round(bpb * RATIO, 8)


def score(label: str, bpb: float, digits: int = 8, tail: str = "") -> str:
    return f"{label} val_loss:{loss(bpb):.{digits}f} val_bpb:{bpb:.{digits}f}{tail}"


def exact_pair(label: str, bpb: float, tail: str) -> list[str]:
    return [score(label, bpb, 4, tail), score(f"{label}_exact", bpb)]


def machine() -> list[str]:
    gpu = "|   {} NVIDIA H100 80GB HBM3          On  |   00000000:0{}:00.0 Off |                    0 |"
    return ["Running Python 3.12.3 (main)", "Running PyTorch 2.9.1+cu128", *(gpu.format(i, i) for i in range(8)), RULE]


def old(truth: Truth = Truth(), source: bool = True) -> list[str]:
    """`seed:1337`, `step:N/M ... step_avg`, `_exact` twins, the first script's label repeated for the sliding score."""
    t, total = truth, 20000
    lines = [*SOURCE.splitlines(), RULE] if source else []
    lines += machine()
    lines += ["val_bpb:enabled tokenizer_kind=sentencepiece tokenizer_path=./data/tokenizers/fineweb_1024_bpe.model"]
    lines += [f"model_params:{t.params}", "world_size:8 grad_accum_steps:1", f"seed:{t.seed}"]
    lines += [f"warmup_step:{i}/20" for i in (1, 20)]
    lines += [f"step:0/{total} val_loss:6.9309 val_bpb:4.1049 train_time:0ms step_avg:0.01ms"]
    for step in range(500, t.steps, 500):
        took = step * t.step_avg_ms
        lines.append(f"step:{step}/{total} train_loss:2.1001 train_time:{took:.0f}ms step_avg:{t.step_avg_ms:.2f}ms")
        if step % 2000 == 0:
            times = f"train_time:{took:.0f}ms step_avg:{t.step_avg_ms:.2f}ms"
            lines.append(f"step:{step}/{total} val_loss:2.0569 val_bpb:1.2182 {times}")
    spent = f"train_time:{t.train_time_s * 1000:.0f}ms"
    lines += [f"step:{t.steps}/{total} val_loss:1.9221 val_bpb:1.1384 {spent} step_avg:{t.step_avg_ms:.2f}ms"]
    lines += [f"stopping_early: wallclock_cap {spent} step:{t.steps}/{total}", "ema:applying EMA weights"]
    lines += [score("DIAGNOSTIC post_ema", t.pre_quant_bpb, 4, " eval_time:1960ms")]
    lines += ["Serialized model: 106158518 bytes", f"Code size: {t.code} bytes"]
    lines += [f"Total submission size: {106158518 + t.code} bytes", f"Serialized model int6+lzma: {t.model} bytes"]
    lines += [f"Total submission size int6+lzma: {t.model + t.code} bytes"]
    lines += exact_pair("final_int6_roundtrip", t.roundtrip_bpb, " eval_time:6511ms")
    lines += exact_pair("final_int6_sliding_window", t.sliding_bpb, " stride:64 eval_time:76088ms")
    lines += [score("final_int8_zlib_roundtrip_exact", t.sliding_bpb)]
    lines += ["ttt_sliding:start chunks=1893 chunk_tokens=32768 ttt_lr=0.002 ttt_epochs=3"]
    lines += [f"  ttt_chunk [{i}/1893] bpb={1.16 - i * 2e-5:.6f} time={i * 0.2:.1f}s" for i in (1, 11, 1001, 1893)]
    lines += [f"ttt_sliding:done val_loss={loss(t.post_ttt_bpb):.6f} val_bpb={t.post_ttt_bpb:.6f} elapsed=409.8s"]
    return lines + exact_pair("legal_ttt", t.post_ttt_bpb, " eval_time:410268ms")


def new(truth: Truth = Truth(), source: bool = True) -> list[str]:
    """Indented hyperparameters, `4971/20000 val_loss:`, no step_avg, compressed code counted, a total at the end."""
    t, total = truth, 20000
    header = {"seed": t.seed, "sliding_window_enabled": True, "ttt_enabled": True, "ttt_lora_rank": 96, "world_size": 8}
    lines = ["Hyperparameters:", *(f"  {name}: {value}" for name, value in header.items())]
    if source:
        lines += ["Source code:", RULE, *SOURCE.splitlines(), RULE]
    lines += [*machine(), "train_shards: 80", "val_tokens: 40540160", f"model_params:{t.params}"]
    lines += [f"0/{total} val_loss: 9.0047 val_bpb: 3.4860"]
    for step in range(500, t.steps, 500):
        lines.append(f"{step}/{total} train_loss: 3.1001 train_time: {step * 84 / 60000:.1f}m tok/s: 8123456")
    lines += [f"{t.steps}/{total} val_loss: 1.9221 val_bpb: 1.1384"]
    lines += [f"stopping_early: wallclock_cap train_time: {t.train_time_s * 1000:.0f}ms step: {t.steps}/{total}"]
    lines += [score("diagnostic pre-quantization post-ema", t.pre_quant_bpb, 8, " eval_time:6282ms")]
    lines += ["Serialized model: 135431033 bytes", "Code size (uncompressed): 139831 bytes"]
    lines += [f"Code size (compressed): {t.code} bytes", f"Serialized model quantized+brotli: {t.model} bytes"]
    lines += [f"Total submission size quantized+brotli: {t.model + t.code} bytes"]
    lines += [score("diagnostic quantized", t.roundtrip_bpb, 8, " eval_time:9559ms")]
    lines += [score("quantized_sliding_window", t.sliding_bpb, 8, " eval_time:91376ms")]
    lines += ["ttt_sliding:start chunks=1238 ttt_lr=0.005", "ttp: b770/782 bl:2.75 bb:1.06 rl:2.76 rb:1.0701 dl:1-2"]
    lines += [f"ttt_sliding:done val_loss={loss(t.post_ttt_bpb):.6f} val_bpb={t.post_ttt_bpb:.6f} elapsed=409.8s"]
    return [*lines, score("quantized_ttt", t.post_ttt_bpb, 8, " eval_time:410268ms"), "total_eval_time:410.3s"]


def pairs(truth: Truth = Truth()) -> list[str]:
    """One line a fact, `k=v` throughout."""
    t = truth
    return [
        f"seed={t.seed} world_size={8} torch=2.9.1+cu128 params={t.params}",
        "step=0/7179 val_loss=6.9309 val_bpb=4.1049 train_time=0ms",
        f"step={t.steps}/{t.steps} val_loss=1.9221 val_bpb=1.1384 train_time={t.train_time_s * 1000:.0f}ms "
        f"step_avg={t.step_avg_ms}ms",
        f"size_check: model={t.model} code={t.code} total={t.model + t.code} limit=16000000",
        f"quantized val_loss={loss(t.roundtrip_bpb)} val_bpb={t.roundtrip_bpb:.8f} eval_time=6511ms",
        f"sliding val_loss={loss(t.sliding_bpb)} val_bpb={t.sliding_bpb:.8f} eval_time=76088ms",
        f"ttt val_loss={loss(t.post_ttt_bpb)} val_bpb={t.post_ttt_bpb:.8f} eval_time=410268ms",
    ]


def stamped(lines: list[str]) -> list[str]:
    """The family that writes a unix time before every line."""
    return [f"{1776142360 + i // 7}.{i % 1000:03d} {line}" for i, line in enumerate(lines)]


def written(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
