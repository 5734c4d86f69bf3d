"""What the worker finds of its GPUs, held against what the run asks for: a list of findings, each with its words.

Refused is what would waste the minutes or spoil the result: other GPUs than the run's id names, GPUs with memory
errors; of the policy's own hardware also missing links, somebody else at work, and speeds below the policy's. Links
tell one form of a model from another: where a driver does not tell them, the hardware of a record stays unknown. All
of this is pure.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from golf_core.policy import Hardware
from orchestrator.hardware.gpus import Gpu
from orchestrator.hardware.health import Health

PASS, FAIL, UNKNOWN, NOTE = "pass", "fail", "unknown", "note"  # NOTE: worth a line, decides nothing
WRONG, SLOW = "wrong_hardware", "slow_node"  # classes of an attempt that a finding ends
RECORD, SIMULATED = "record", "simulated"
SHOWN = 4  # GPUs that one finding names


@dataclass(frozen=True)
class Finding:
    check: str
    verdict: str
    message: str
    cls: str = ""  # of a failure

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run wants of its GPUs, as run.json tells it."""

    gpu: str | None
    gpus: int
    target_class: str
    thresholds: Hardware | None

    @property
    def strict(self) -> bool:
        """Whether the policy's thresholds are meant for these GPUs."""
        return self.target_class == RECORD

    @property
    def limits(self) -> Hardware:
        """Those that hold: none on other GPUs than the policy's."""
        return self.thresholds if self.strict and self.thresholds is not None else Hardware()


def verdict_of(findings: Sequence[Finding]) -> str:
    """The worst; notes aside."""
    found = {one.verdict for one in findings}
    return FAIL if FAIL in found else UNKNOWN if UNKNOWN in found else PASS


def failure_of(findings: Sequence[Finding]) -> tuple[str, str] | None:
    """Class and message of what fails: other hardware before slow hardware."""
    failed = sorted((one for one in findings if one.verdict == FAIL), key=lambda one: one.cls != WRONG)
    if not failed:
        return None
    return failed[0].cls, "; ".join(one.message for one in failed if one.cls == failed[0].cls)


def judge_identity(asked: Asked, seen: Sequence[Gpu], hidden: int, silence: str) -> list[Finding]:
    """Number and model: the run's id names both. `silence`: why none is named, where none is."""
    want = f"{asked.gpus}x {asked.gpu or 'GPU'}"
    if len(seen) < asked.gpus:
        here = (
            f"{len(seen)} GPU{'s are' if len(seen) != 1 else ' is'} visible here" if seen else "no GPU is visible here"
        )
        more = f", {hidden} hidden by the environment" if hidden else "" if seen else f" ({silence})"
        return [Finding("count", FAIL, f"{here}{more}; the run is for {want}", WRONG)]
    found = [Finding("count", PASS, f"{len(seen)} visible, {asked.gpus} used")]
    others = {number: gpu.name for number, gpu in enumerate(seen[: asked.gpus]) if gpu.name != asked.gpu}
    if others:
        return [*found, Finding("model", FAIL, f"{_each(others, 'is')}; the run is for {want}", WRONG)]
    return [*found, Finding("model", PASS, want)]


def judge_health(asked: Asked, used: Sequence[Gpu], states: Sequence[Health]) -> list[Finding]:
    """Links, memory errors, who else is at work, heat."""
    limits = asked.limits
    if used and used[0].source != "nvml":
        told = f"{used[0].source} tells of neither links nor memory errors nor other programs: not checked"
        return [Finding("health", UNKNOWN if asked.strict else NOTE, told)]
    found = [_judge_links(asked, states)] if limits.nvlinks else []
    found += [_judge_memory(states), _judge_others(asked, states), _judge_heat(asked, states)]
    if any(one.mig for one in states):
        found.append(Finding("mig", NOTE, "MIG instances: parts of a GPU, of whose state less is told"))
    return found


def _judge_links(asked: Asked, states: Sequence[Health]) -> Finding:
    least = asked.limits.nvlinks
    few = {n: f"{state.nvlinks} active NVLinks" for n, state in enumerate(states) if _below(state.nvlinks, least)}
    if few:
        return Finding("links", FAIL, f"{_each(few, 'has')}; the policy asks for {least} (SXM)", WRONG)
    return _told("links", [state.nvlinks for state in states], f"{least} active NVLinks each", UNKNOWN)


def _judge_memory(states: Sequence[Health]) -> Finding:
    """Errors that were not corrected spoil a result on any hardware."""
    bad = {n: f"{state.ecc_errors} uncorrected memory errors" for n, state in enumerate(states) if state.ecc_errors}
    for number, state in enumerate(states):
        if state.rows:
            what = "a row of memory that could not be replaced" if state.rows == "failed" else "a row to be replaced"
            bad[number] = what + ("" if state.rows == "failed" else ": the GPU needs a reset")
    if bad:
        return Finding("memory errors", FAIL, _each(bad, "has"), WRONG)
    off = {number: "ECC off" for number, state in enumerate(states) if state.ecc is False}
    if off:
        return Finding("memory errors", NOTE, f"{_each(off, 'has')}: errors go unseen")
    return _told("memory errors", [state.ecc_errors for state in states], "none uncorrected")


def _judge_others(asked: Asked, states: Sequence[Health]) -> Finding:
    """Programs on the GPUs before ours: named by process, or by the memory that is gone."""
    busy = {
        number: f"process{'es' if len(state.processes) > 1 else ''} {', '.join(map(str, state.processes))}"
        for number, state in enumerate(states)
        if state.processes
    }
    most = asked.limits.idle_bytes
    for number, state in enumerate(states):
        if most and number not in busy and state.used_bytes is not None and state.used_bytes > most:
            busy[number] = f"{state.used_bytes / 1e9:.1f} GB in use by nobody that is told"
    if busy:
        told = f"{_each(busy, 'has')}: somebody else works on it"
        return Finding("others", FAIL, told, WRONG) if asked.strict else Finding("others", NOTE, told)
    return _told("others", [state.processes for state in states], "nobody else")


def _judge_heat(asked: Asked, states: Sequence[Health]) -> Finding:
    hot = {number: state.slowed for number, state in enumerate(states) if state.slowed}
    if hot:
        told = f"{_each(hot, 'is slowed down:')}"
        return Finding("slowed", FAIL, told, SLOW) if asked.strict else Finding("slowed", NOTE, told)
    return _told("slowed", [state.slowed for state in states], "by nothing")


def judge_probe(asked: Asked, probe: Mapping[str, typing.Any]) -> list[Finding]:
    """Speeds under the load of all GPUs together, and the clocks meanwhile. `probe` is what the probe printed, with
    `clocks_mhz` and `slowed` of the watch beside it."""
    limits = asked.limits
    parts = (
        ("matmul_tflops", limits.matmul_tflops, "TFLOPS of bf16"),
        ("copy_gb_s", limits.copy_gb_s, "GB/s of memory"),
        ("all_reduce_gb_s", limits.all_reduce_gb_s, "GB/s over the links"),
        ("clocks_mhz", limits.clock_mhz, "MHz under load"),
    )
    found = [_judge_speed(asked, name, probe.get(name) or [], least, unit) for name, least, unit in parts]
    hot = {number: why for number, why in enumerate(probe.get("slowed") or []) if why}
    if hot:
        told = f"{_each(hot, 'was slowed down under load:')}"
        found.append(Finding("slowed under load", FAIL, told, SLOW) if asked.strict else Finding("slowed", NOTE, told))
    return found


def _judge_speed(asked: Asked, name: str, values: Sequence[float | None], least: float, unit: str) -> Finding:
    low = {number: f"{value:,.0f} {unit}" for number, value in enumerate(values) if _below(value, least)}
    if low:
        return Finding(name, FAIL, f"{_each(low, 'reaches')}; the policy asks for {least:,.0f}", SLOW)
    known = [value for value in values if value is not None]
    if known and len(known) == len(values):
        what = f"{min(known):,.0f} to {max(known):,.0f} {unit}"
        return Finding(name, PASS if least else NOTE, what + (f", at least {least:,.0f}" if least else "; not judged"))
    if name == "all_reduce_gb_s" and asked.gpus < 2:
        return Finding(name, NOTE, "one GPU has nobody to exchange with")
    return Finding(name, NOTE, f"{unit}: not told")


def _told(check: str, values: Sequence[object | None], good: str, otherwise: str = NOTE) -> Finding:
    """A check that found nothing bad, where it could look."""
    silent = {number: "nothing of it" for number, value in enumerate(values) if value is None}
    if silent:
        return Finding(check, otherwise, f"{_each(silent, 'tells')}: not checked")
    return Finding(check, PASS, good)


def _below(value: float | None, least: float) -> bool:
    return value is not None and value < least


def _each(found: Mapping[int, str], verb: str) -> str:
    """
    >>> _each({0: "18 links", 3: "17 links"}, "has")
    'GPU 0 has 18 links, GPU 3 has 17 links'
    """
    told = [f"GPU {number} {verb} {what}" for number, what in list(found.items())[:SHOWN]]
    return ", ".join(told) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
