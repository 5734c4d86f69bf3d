"""Before anything is trained: are these the GPUs that the run asks for, sound, free and fast enough?

What was found is hardware.json of the attempt, sealed with it. A run that is refused here has cost half a minute; the
same run on a wrong or slow node would cost all of its own. On a CPU there is nothing to look at; simulated GPUs
are declared to Ray and not there, which is all that can be said of them.
"""

import re
import time
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.policy import Hardware, hardware_from
from golf_core.rundir import read_jsonl
from orchestrator.errors import UsageError
from orchestrator.hardware.check import (
    FAIL,
    NOTE,
    SIMULATED,
    SLOW,
    WRONG,
    Asked,
    Finding,
    failure_of,
    judge_health,
    judge_identity,
    judge_probe,
    verdict_of,
)
from orchestrator.hardware.gpus import Gpu, Library, installed_gpus, nvml_library, opened, silence, visible
from orchestrator.hardware.health import Health, Watch, healths
from orchestrator.hardware.speed_probe import Launch, probe_command, run_probe
from orchestrator.worker.stage import STOPPED, Ended, Stop

SCHEMA_VERSION = 1
KERNEL = Path("/proc/driver/nvidia/version")  # where the kernel tells the driver's version: no library is between
OTHERS_SECONDS = 10.0  # for the programs of an attempt that was killed a moment ago to leave the GPUs
FIRST_STEPS = 20  # after which the time of a step is judged for the last time
HICCUP_STEPS = 10  # that the first steps may take longer all together, such as for a first read from disk


@dataclass(frozen=True)
class Eyes:
    """With what the worker looks at GPUs. Tests give it others by argument; no variable of the environment can."""

    nvml: Callable[[], Library | None] = nvml_library
    kernel: Path = KERNEL
    probe: Launch = probe_command


@dataclass(frozen=True)
class Verified:
    """`report` is what hardware.json says; None on a CPU. `ended`: why the attempt ends here."""

    report: dict[str, typing.Any] | None
    ended: Ended | None = None


def verify(asked: Mapping[str, typing.Any], env: Mapping[str, str], marker: str, stop: Stop, eyes: Eyes) -> Verified:
    """Look at the GPUs that a program with this environment would see. `asked` is run.json."""
    if asked["target_class"] == SIMULATED:
        return Verified(_report(_asked(asked), [Finding("simulated", NOTE, "declared to Ray, not there")], SIMULATED))
    if asked["target"]["device"] != "cuda":
        return Verified(None)
    want = _asked(asked)
    with opened(eyes.nvml()) as nvml:
        findings, used, states = _look(want, nvml, env, eyes, stop)
        report = _report(want, findings) | {"gpus": [_told(*one) for one in zip(used, states, strict=True)]}
        if failure_of(findings) is not None or not want.strict or want.thresholds is None:
            return Verified(report, _end(findings))
        watch = Watch(used, nvml)
        probed = run_probe(eyes.probe(want.gpus), env, marker, want.thresholds.probe_seconds, stop, watch)
    if probed.stopped:
        return Verified(report, Ended(probed.stopped, STOPPED.get(probed.stopped, probed.stopped), None))
    if probed.told is None:
        findings.append(Finding("probe", FAIL, f"the speed probe: {probed.trouble}", SLOW if probed.late else WRONG))
    else:
        report["probe"] = probed.told | {"clocks_mhz": watch.clocks(), "slowed": watch.slowed()}
        findings += _judge_name(want, used, probed.told) + judge_probe(want, report["probe"])
    return Verified(report | _report(want, findings), _end(findings))


def _asked(asked: Mapping[str, typing.Any]) -> Asked:
    told = (asked.get("hardware") or {}).get("thresholds")
    thresholds: Hardware | None = None if told is None else hardware_from(told)
    target = asked["target"]
    return Asked(gpu=target["gpu"], gpus=target["gpus"], target_class=asked["target_class"], thresholds=thresholds)


def _look(
    want: Asked, nvml: Library | None, env: Mapping[str, str], eyes: Eyes, stop: Stop
) -> tuple[list[Finding], list[Gpu], list[Health]]:
    """What is there. Somebody else on the GPUs may be an attempt that was killed a moment ago: it is waited for."""
    installed = installed_gpus(lambda: nvml)
    try:
        seen = visible(installed, env)
    except UsageError as error:
        return [Finding("count", FAIL, str(error), WRONG)], [], []
    findings = judge_identity(want, seen, len(installed) - len(seen), silence(eyes.nvml))
    if failure_of(findings) is not None:
        return findings, [], []
    used = seen[: want.gpus]
    states, until = healths(used, nvml), time.monotonic() + OTHERS_SECONDS
    while any(state.processes for state in states) and time.monotonic() < until and stop() is None:
        time.sleep(0.2)
        states = healths(used, nvml)
    return findings + _judge_kernel(used, eyes.kernel) + judge_health(want, used, states), used, states


def _judge_kernel(used: Sequence[Gpu], path: Path) -> list[Finding]:
    """The driver's version by the library and by the kernel: where they differ, one of them is not of this machine."""
    if used[0].source != "nvml":
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return [Finding("driver", NOTE, f"{used[0].driver} by NVML; {path} is not there to confirm it")]
    match = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", text)
    if match is None or match[1] == used[0].driver:
        return [Finding("driver", NOTE, f"{used[0].driver} by NVML" + (" and the kernel" if match else ""))]
    told = f"NVML tells of driver {used[0].driver}, the kernel of {match[1]}: one of them is not this machine's"
    return [Finding("driver", FAIL, told, WRONG)]


def _judge_name(want: Asked, used: Sequence[Gpu], told: Mapping[str, typing.Any]) -> list[Finding]:
    """The model as torch tells it, which does not go through NVML."""
    name = told.get("name")
    if told.get("device") != "cuda" or used[0].source != "nvml" or name == want.gpu:
        return []
    return [Finding("model", FAIL, f"torch works on {name!r}; the run is for {want.gpu}", WRONG)]


def _report(want: Asked, findings: Sequence[Finding], verdict: str | None = None) -> dict[str, typing.Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": verdict or verdict_of(findings),
        "target_class": want.target_class,
        "asked": {"gpu": want.gpu, "gpus": want.gpus},
        "thresholds": None if want.thresholds is None else vars(want.thresholds),
        "findings": [one.to_dict() for one in findings],
    }


def _told(gpu: Gpu, state: Health) -> dict[str, typing.Any]:
    return gpu.to_dict() | state.to_dict()


def _end(findings: Sequence[Finding]) -> Ended | None:
    failure = failure_of(findings)
    return None if failure is None else Ended(*failure, None)


class FirstSteps:
    """Judges the first steps of a training against the time that was published for the recipe. Once, and early: later
    a training can be slow for reasons of its own."""

    def __init__(self, metrics: Path, hardware: Mapping[str, typing.Any] | None) -> None:
        """`hardware`: of run.json."""
        told = hardware or {}
        self.metrics = metrics
        self.reference: Mapping[str, typing.Any] = told.get("reference") or {}
        self.factor = float((told.get("thresholds") or {}).get("step_factor") or 0.0)
        self.measured: dict[str, typing.Any] = {}
        self.judging = bool(self.factor and self.reference.get("step_ms"))

    def __call__(self) -> tuple[str, str] | None:
        """Class and message once they were too slow; called when there is something new."""
        if not self.judging:
            return None
        times = [(row["step"], row["elapsed_s"]) for row in read_jsonl(self.metrics, "step") if _is_step(row)]
        if len(times) < 2 or times[-1][0] <= times[0][0]:
            return None
        (first, began), (last, now) = times[0], times[-1]
        steps, reference = last - first, self.reference["step_ms"]
        each = 1000 * (now - began) / steps
        self.judging = steps < FIRST_STEPS
        self.measured = {"steps": steps, "step_ms": each}
        if 1000 * (now - began) <= self.factor * reference * (steps + HICCUP_STEPS):
            return None
        self.judging = False
        return SLOW, (
            f"steps {first + 1} to {last} took {each:.1f} ms each; {reference:g} ms were published "
            f"({self.reference['source']}), and the policy allows {self.factor:g} times that"
        )

    def report(self) -> dict[str, typing.Any]:
        """For hardware.json."""
        return {"reference": dict(self.reference), "factor": self.factor, "measured": self.measured or None}


def _is_step(row: Mapping[str, typing.Any]) -> bool:
    return row.get("event") == "step" and type(row.get("step")) is int and type(row.get("elapsed_s")) is float
