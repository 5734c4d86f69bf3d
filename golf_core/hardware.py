"""What this machine computes well, without torch: the worker's plan and the bundle must agree on it."""

from pathlib import Path

DTYPES = ("bf16", "fp32")  # of activations and matrix products; weights and sums are fp32 with either


def cpu_dtype() -> str:
    """bf16 where the processor multiplies it natively, else fp32 (emulated bf16 is about 13 times slower)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "fp32"
    flags = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "fp32"
