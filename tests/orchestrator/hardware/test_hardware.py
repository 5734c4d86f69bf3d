"""Hardware verification with a fake NVML: what is refused before a step is trained, what is only said, what is sealed.

The probe itself runs once, under real torchrun, on this CPU; else small programs tell what sound and bad GPUs would.
"""

import dataclasses
import json
import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.policy import Hardware, load_policy
from golf_core.rundir import (
    ENV,
    HARDWARE,
    HARDWARE_AGAIN,
    LOG,
    RUN,
    SEAL,
    TRAIN_SEAL,
    read_json,
    verify_seal,
    write_json,
)
from orchestrator.checkout import ROOT
from orchestrator.hardware import verify as hardware
from orchestrator.hardware.check import SLOW, WRONG, Asked, failure_of, judge_probe, verdict_of
from orchestrator.hardware.gpus import nvml_library
from orchestrator.hardware.speed_probe import probe_command
from orchestrator.hardware.verify import Eyes, FirstSteps, verify
from orchestrator.worker.attempt import run_attempt
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml, install_rocm_smi, process
from tests.orchestrator.toy import attempt_folder, toy_text
from tests.orchestrator.worker.test_worker import left
from tests.processes import until

H100 = load_policy("record-2026-03").gpu
LIMITS = load_policy("record-2026-03").hardware


def program(text):
    """A probe that is this text, alone."""
    return lambda processes: [sys.executable, "-I", "-S", "-c", text.replace("WORLD", str(processes))]


SPEEDS = "'matmul_tflops': [700.0] * WORLD, 'copy_gb_s': [2900.0] * WORLD, 'all_reduce_gb_s': [360.0] * WORLD"
QUICK = program(
    "import json, time; print('probe:begin matmul_tflops', flush=True); time.sleep(0.15);"
    f"print('probe:end matmul_tflops'); print(json.dumps({{'name': '{H100}', 'device': 'cuda', {SPEEDS}}}));"
    "print('[rank0] Warning: a library says goodbye')"
)
NO_PROBE = program("raise SystemExit('the probe was started')")
HANG = program("import time; print('probe:begin matmul_tflops', flush=True); time.sleep(1000)")


def asked(gpus=8, gpu=H100, target_class="record", thresholds=LIMITS, device="cuda", reference=None):
    """run.json, as far as the verification reads it."""
    told = None if thresholds is None else dataclasses.asdict(thresholds)
    target = {"device": device, "gpu": gpu, "gpus": gpus, "processes": gpus}
    return {"target": target, "target_class": target_class, "hardware": {"thresholds": told, "reference": reference}}


def eyes(module, tmp_path, probe=NO_PROBE, kernel=None):
    if kernel is not None:
        (tmp_path / "version").write_text(kernel)
    return Eyes(nvml=lambda: module, kernel=tmp_path / "version", probe=probe)


def look(tmp_path, module, run=None, env=None, **more):
    return verify(run or asked(), env or {}, "marker", lambda: None, eyes(module, tmp_path, **more))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    """Somebody else on the GPUs is not waited for."""
    monkeypatch.setattr(hardware, "OTHERS_SECONDS", 0.0)


# Fault 13 of the reliability list, and what else a card can be wrong with: class, and words of the message.
REFUSED = {
    "7 GPUs": (fake_nvml([H100] * 7), WRONG, "7 GPUs are visible here; the run is for 8x NVIDIA H100 80GB HBM3"),
    "no GPU": (fake_nvml([]), WRONG, "no GPU is visible here (NVML and rocm-smi name none)"),
    "PCIe": (fake_nvml(["NVIDIA H100 PCIe"] * 8), WRONG, "GPU 0 is NVIDIA H100 PCIe"),
    "NVL": (fake_nvml(["NVIDIA H100 NVL"] * 8), WRONG, "GPU 0 is NVIDIA H100 NVL"),
    "H200": (fake_nvml(["NVIDIA H200"] * 8), WRONG, "NVIDIA H200"),
    "one other": (fake_nvml([H100] * 7 + ["NVIDIA H200"]), WRONG, "GPU 7 is NVIDIA H200; the run is for 8x NVIDIA"),
    "MIG": (fake_nvml([H100] * 8, mig=(2,)), WRONG, "GPU 2 is NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
    "no NVLink": (fake_nvml([H100] * 8, odd={5: {"links": 0}}), WRONG, "GPU 5 has 0 active NVLinks; the policy"),
    "a link down": (fake_nvml([H100] * 8, odd={1: {"links": 17}}), WRONG, "GPU 1 has 17 active NVLinks"),
    "ECC errors": (fake_nvml([H100] * 8, odd={3: {"ecc_errors": 2}}), WRONG, "GPU 3 has 2 uncorrected memory errors"),
    "a bad row": (fake_nvml([H100] * 8, odd={0: {"rows": (0, 1, 1, 0)}}), WRONG, "the GPU needs a reset"),
    "a dead row": (fake_nvml([H100] * 8, odd={0: {"rows": (0, 1, 0, 1)}}), WRONG, "could not be replaced"),
    "somebody else": (fake_nvml([H100] * 8, odd={6: {"processes": [process(4711)]}}), WRONG, "GPU 6 has process 4711"),
    "somebody unseen": (fake_nvml([H100] * 8, odd={6: {"used": 40 << 30}}), WRONG, "42.9 GB in use by nobody"),
    "too hot": (fake_nvml([H100] * 8, odd={4: {"reasons": 0x44}}), SLOW, "GPU 4 is slowed down: too hot"),
}  # fmt: skip


@pytest.mark.parametrize("module, cls, words", REFUSED.values(), ids=REFUSED)
def test_wrong_hardware_is_refused_before_anything_runs(tmp_path, module, cls, words):
    """Without even the probe: the class, the card and what was asked for; the report says the same."""
    found = look(tmp_path, module)
    assert (found.ended.cls, found.report["verdict"]) == (cls, "fail") and words in found.ended.message
    assert "probe" not in found.report and any(words in one["message"] for one in found.report["findings"])


def test_all_of_a_machine_is_told_and_nothing_of_it_is_guessed(tmp_path):
    """A driver that tells nothing but names: links leave a record unknown, the rest is a note; nothing is refused."""
    names = fake_nvml([H100]).__dict__
    silent = [name for name in names if name.startswith("nvmlDeviceGet") and name[13:] not in ("Count", "Name", "UUID")]
    silent = [name for name in silent if "Handle" not in name]
    run = asked(gpus=2)
    found = look(tmp_path, fake_nvml([H100] * 2, silent=silent), run, probe=QUICK)
    assert found.ended is None and found.report["verdict"] == "unknown"
    unknown = [one["check"] for one in found.report["findings"] if one["verdict"] == "unknown"]
    assert unknown == ["links"] and found.report["gpus"][1]["nvlinks"] is None


EXPLORATORY = {
    "another model": (fake_nvml(["NVIDIA A100-SXM4-40GB"] * 2), {"gpu": "NVIDIA A100-SXM4-40GB", "gpus": 2}),
    "with somebody else": (fake_nvml([H100], odd={0: {"processes": [process(7)]}}), {"gpus": 1}),
    "hot, few links": (fake_nvml([H100], odd={0: {"reasons": 0x40, "links": 0}}), {"gpus": 1}),
    "fewer than there are": (fake_nvml([H100] * 8), {"gpus": 2}),
    "a MIG instance": (fake_nvml([H100], mig=(0,)), {"gpu": f"{H100} MIG 1g.10gb", "gpus": 1}),
}


@pytest.mark.parametrize("module, target", EXPLORATORY.values(), ids=EXPLORATORY)
def test_the_policys_thresholds_are_for_its_own_hardware(tmp_path, module, target):
    """Any real GPUs that the run is for are taken; what is odd is said, and no probe takes their time."""
    found = look(tmp_path, module, asked(target_class="exploratory", **target))
    assert found.ended is None and found.report["verdict"] == "pass" and "probe" not in found.report


def test_errors_of_memory_spoil_any_run(tmp_path):
    """On other hardware than the policy's too, and where the policy sets no thresholds."""
    broken = fake_nvml(["NVIDIA A10"], odd={0: {"ecc_errors": 1}})
    run = asked(gpu="NVIDIA A10", gpus=1, target_class="exploratory", thresholds=None)
    assert look(tmp_path, broken, run).ended.cls == WRONG


def test_rocm_is_taken_with_a_word(monkeypatch, tmp_path):
    """rocm-smi tells model and number; that nothing else was looked at is said."""
    install_rocm_smi(monkeypatch, tmp_path, ["AMD Instinct MI300X"] * 2)
    run = asked(gpu="AMD Instinct MI300X", gpus=2, target_class="exploratory")
    found = look(tmp_path, None, run)
    assert found.ended is None and "not checked" in found.report["findings"][-1]["message"]
    assert look(tmp_path, None, asked()).ended.cls == WRONG


@pytest.mark.parametrize("shown, words", [("0,1", "2 GPUs are visible here, 6 hidden"), ("", "no GPU"), ("9", "'9'")])
def test_hidden_gpus_are_told_as_hidden(tmp_path, shown, words):
    """What the program will not see does not count, whatever the machine has."""
    found = look(tmp_path, fake_nvml([H100] * 8), env={"CUDA_VISIBLE_DEVICES": shown})
    assert found.ended.cls == WRONG and words in found.ended.message


KERNELS = {
    "the same": ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Wed", None),
    "the same, open": ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release", None),
    "another": ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat", WRONG),
    "none": (None, None),
    "words": ("nothing of it", None),
}


@pytest.mark.parametrize("text, cls", KERNELS.values(), ids=KERNELS)
def test_the_kernel_is_asked_for_the_driver_too(tmp_path, text, cls):
    """A library that tells of another driver than the kernel is not this machine's."""
    run = asked(target_class="exploratory")
    ended = look(tmp_path, fake_nvml([H100] * 8), run, kernel=text).ended
    assert (ended and ended.cls) == cls


def test_no_variable_fakes_a_gpu(tmp_path, monkeypatch):
    """The default eyes are the installed library and the kernel; the environment has no say in either."""
    install_nvml(monkeypatch, fake_nvml([H100] * 8))  # what a plain look would see now
    for name in ("GOLF_NVML", "GOLF_FAKE_GPUS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "0,1,2,3,4,5,6,7")
    assert Eyes().nvml is nvml_library and Eyes() == Eyes()
    if not os.path.exists("/proc/driver/nvidia"):
        assert verify(asked(), dict(os.environ), "m", lambda: None, Eyes()).ended.cls == WRONG


def test_a_cpu_has_nothing_to_look_at_and_simulated_gpus_say_so(tmp_path):
    """No file for a CPU; for declared GPUs a file that says what they are."""
    assert look(tmp_path, None, asked(device="cpu", gpus=0, gpu=None, target_class="cpu")).report is None
    found = look(tmp_path, None, asked(device="cpu", target_class="simulated"))
    assert (found.ended, found.report["verdict"]) == (None, "simulated")


# --- the probe

GOOD = {
    "name": H100, "device": "cuda", "matmul_tflops": [690.0] * 8, "copy_gb_s": [2900.0] * 8,
    "all_reduce_gb_s": [360.0] * 8, "clocks_mhz": [1500] * 8, "slowed": [""] * 8,
}  # fmt: skip
ONE_BAD = {
    "low clocks": ("clocks_mhz", 700, "GPU 3 reaches 700 MHz under load; the policy asks for 1,200"),
    "slow products": ("matmul_tflops", 300.0, "GPU 3 reaches 300 TFLOPS of bf16; the policy asks for 500"),
    "slow memory": ("copy_gb_s", 1700.0, "GPU 3 reaches 1,700 GB/s of memory"),
    "slow links": ("all_reduce_gb_s", 40.0, "GPU 3 reaches 40 GB/s over the links"),
    "hot under load": ("slowed", "too hot (hardware slowdown)", "GPU 3 was slowed down under load: too hot"),
}
STRICT = Asked(gpu=H100, gpus=8, target_class="record", thresholds=LIMITS)


def test_good_speeds_pass():
    """What a sound machine is expected to show, under the shipped thresholds."""
    assert verdict_of(judge_probe(STRICT, GOOD)) == "pass"


@pytest.mark.parametrize("part, value, words", ONE_BAD.values(), ids=ONE_BAD)
def test_one_slow_gpu_makes_a_slow_node(part, value, words):
    """One card below a threshold is enough, and is named; on other hardware the same is only written down."""
    bad = GOOD | {part: [*GOOD[part][:3], value, *GOOD[part][4:]]}
    assert (
        failure_of(judge_probe(STRICT, bad)) == (SLOW, pytest.approx(words))
        or words in failure_of(judge_probe(STRICT, bad))[1]
    )
    assert failure_of(judge_probe(dataclasses.replace(STRICT, target_class="exploratory"), bad)) is None


@given(st.floats(0, 2e3), st.floats(1, 1e3))
def test_a_threshold_is_met_by_what_equals_it(value, least):
    """Below fails, at or above passes, whatever the other GPUs do."""
    limits = Hardware(matmul_tflops=least)
    findings = judge_probe(dataclasses.replace(STRICT, thresholds=limits), GOOD | {"matmul_tflops": [5e3, value]})
    assert (failure_of(findings) is not None) == (value < least)


def test_the_probe_runs_under_torchrun_and_is_judged(tmp_path):
    """Two real processes, the clocks of the fake cards watched meanwhile; a CPU is slow by the policy's numbers. It is
    this project's probe, whatever lies on the path of whoever submits."""
    (tmp_path / "golf_core").mkdir()
    (tmp_path / "golf_core" / "probe.py").write_text("raise SystemExit('not ours')")
    env = dict(os.environ) | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
    real = lambda processes: [*probe_command(processes, "cpu"), "--seconds", "0.05"]  # noqa: E731
    found = look(tmp_path, fake_nvml([H100] * 2), asked(gpus=2), probe=real, env=env)
    probe = found.report["probe"]
    assert probe["world"] == 2 and probe["device"] == "cpu" and probe["clocks_mhz"] == [1410, 1410]
    assert all(0 < value < 500 for part in ("matmul_tflops", "copy_gb_s", "all_reduce_gb_s") for value in probe[part])
    assert found.ended.cls == SLOW and "TFLOPS of bf16; the policy asks for 500" in found.ended.message
    assert found.report["verdict"] == "fail"


PROBES = {
    "an exception": (program("raise RuntimeError('CUDA error: unspecified')"), WRONG, "RuntimeError: CUDA error"),
    "an exit": (program("raise SystemExit(3)"), WRONG, "exit code 3"),
    "no words": (program(""), WRONG, "no output"),
    "no JSON": (program("print('hello')"), WRONG, "no line of it is an object; it said last: hello"),
    "another card": (program('print(\'{"device": "cuda", "name": "A10"}\')'), WRONG, "torch works on 'A10'"),
    "too late": (HANG, SLOW, "did not end in 0.3 s"),
}


@pytest.mark.parametrize("probe, cls, words", PROBES.values(), ids=PROBES)
def test_a_probe_that_fails_is_a_bad_node(tmp_path, probe, cls, words):
    """Its last words are the message; one that hangs is ended by the policy's deadline, as a slow node."""
    run = asked(gpus=1, thresholds=dataclasses.replace(LIMITS, probe_seconds=0.3 if probe is HANG else 60.0))
    ended = look(tmp_path, fake_nvml([H100]), run, probe=probe).ended
    assert ended.cls == cls and words in ended.message


def test_whoever_stops_the_attempt_stops_its_probe(tmp_path):
    """With the class that was given; nobody is left, and nothing was trained."""
    folder = gpu_attempt(tmp_path, gpus=1)
    stopped = threading.Event()
    threading.Thread(target=lambda: (until(lambda: left(folder), "the probe"), stopped.set())).start()
    see = eyes(fake_nvml([H100]), tmp_path, probe=HANG)
    result = run_attempt(folder, lambda: "cancelled" if stopped.is_set() else None, see)
    assert (result["class"], result["stage"]) == ("cancelled", "train") and left(folder) == []
    assert (folder / LOG).read_bytes() == b""


# --- the first steps


def steps(folder, *times):
    """metrics.jsonl with (step, elapsed seconds)."""
    rows = [{"event": "start"}, *({"event": "step", "step": n, "elapsed_s": float(t)} for n, t in times)]
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


REFERENCE = {"thresholds": {"step_factor": 2.0}, "reference": {"step_ms": 100.0, "source": "a log"}}


@given(st.integers(2, 500), st.floats(0.01, 100))
def test_first_steps_are_held_against_the_published_time(tmp_path_factory, last, seconds):
    """Twice the time of as many steps and of ten more is allowed; beyond it the node is slow. Never judged again."""
    path = steps(tmp_path_factory.mktemp("steps"), (1, 0.5), (last, 0.5 + seconds))
    judge = FirstSteps(path, REFERENCE)
    slow = judge()
    assert (slow is not None) == (0.5 + seconds - 0.5 > 2.0 * 0.1 * (last - 1 + 10))
    assert slow is None or (slow[0] == SLOW and "100 ms were published (a log)" in slow[1])
    assert judge.report()["measured"]["step_ms"] == pytest.approx(1000 * seconds / (last - 1))
    steps(path.parent, (1, 0.5), (last, 1e9))
    assert slow is not None or last - 1 < 20 or judge() is None


@pytest.mark.parametrize("told", [None, {}, {"thresholds": {"step_factor": 2.0}}, {"reference": {"step_ms": 1.0}}])
def test_without_a_reference_no_step_is_judged(tmp_path, told):
    """Nor without a threshold."""
    assert FirstSteps(steps(tmp_path, (1, 0.0), (30, 1e6)), told)() is None


@pytest.mark.parametrize("row", [{"step": "x", "elapsed_s": 1.0}, {"step": 2}, {"step": 1, "elapsed_s": 9e9}, {}])
def test_odd_metrics_break_nothing(tmp_path, row):
    """A bundle that writes something else into its metrics is not judged by it."""
    path = steps(tmp_path, (1, 0.0))
    path.write_text(path.read_text() + json.dumps({"event": "step"} | row) + "\nnot JSON step\n")
    assert FirstSteps(path, REFERENCE)() is None


# --- in the worker


def gpu_attempt(tmp_path, text=None, **changed):
    folder = attempt_folder(tmp_path, text or toy_text())
    run = read_json(folder / RUN)
    more = asked(**changed)
    target = run["target"] | more["target"] | {"processes": 1}
    write_json(folder / RUN, run | more | {"target": target})
    return folder


def test_what_was_found_is_sealed_with_the_attempt(tmp_path):
    """hardware.json is under both seals, with the probe and the steps; env.json tells of the same GPUs."""
    folder = gpu_attempt(tmp_path, gpus=1, reference={"step_ms": 1e4, "source": "a log"})
    result = run_attempt(folder, eyes=eyes(fake_nvml([H100]), tmp_path, probe=QUICK))
    assert result["class"] == "completed", result["message"]
    assert HARDWARE in verify_seal(folder, TRAIN_SEAL)["files"] and HARDWARE in verify_seal(folder, SEAL)["files"]
    found = read_json(folder / HARDWARE)
    assert found["verdict"] == "pass" and found["gpus"][0]["nvlinks"] == 18 and found["probe"]["clocks_mhz"] == [1410]
    assert found["steps"]["measured"] == {"steps": 4, "step_ms": pytest.approx(10.0)}
    assert read_json(folder / ENV)["gpus"][0]["name"] == H100


def test_a_refused_node_trains_nothing(tmp_path):
    """The class and the words are the result's; nothing was started, and nothing is sealed."""
    folder = gpu_attempt(tmp_path)
    result = run_attempt(folder, eyes=eyes(fake_nvml([H100] * 7), tmp_path))
    assert (result["class"], result["stage"]) == (WRONG, "train") and "7 GPUs" in result["message"]
    assert (folder / LOG).read_bytes() == b"" and not (folder / TRAIN_SEAL).exists()
    assert read_json(folder / HARDWARE)["verdict"] == "fail"


def test_a_training_on_a_slow_node_is_ended_early(tmp_path):
    """The steps of the toy take ten milliseconds each by its metrics; a hundredth was published."""
    reference = {"step_ms": 0.1, "source": "a log"}
    folder = gpu_attempt(tmp_path, toy_text(steps=400, pause=0.01), gpus=1, reference=reference)
    result = run_attempt(folder, eyes=eyes(fake_nvml([H100]), tmp_path, probe=QUICK))
    assert result["class"] == SLOW and "0.1 ms were published" in result["message"] and left(folder) == []
    assert read_json(folder / HARDWARE)["steps"]["measured"]["steps"] < 300


def test_evaluation_alone_looks_at_its_own_node(tmp_path):
    """Repeated elsewhere, it is refused there, or leaves a second file beside the one of the training, sealed too."""
    once = tmp_path / "once"
    once.mkdir()
    text = toy_text({"sliding": f"kill:{once}"})
    folder = gpu_attempt(tmp_path, text, gpus=1, thresholds=None, target_class="exploratory")
    good, bad = fake_nvml([H100]), fake_nvml(["NVIDIA A10"])
    assert run_attempt(folder, eyes=eyes(good, tmp_path))["class"] == "rank_killed"
    first = (folder / HARDWARE).read_bytes()
    refused = run_attempt(folder, eyes=eyes(bad, tmp_path))
    assert (refused["class"], refused["stage"]) == (WRONG, "evaluate") and not (folder / SEAL).exists()
    assert run_attempt(folder, eyes=eyes(good, tmp_path))["class"] == "completed"
    assert {HARDWARE, HARDWARE_AGAIN} <= set(verify_seal(folder)["files"]) and first == (folder / HARDWARE).read_bytes()
    assert read_json(folder / HARDWARE_AGAIN)["verdict"] == "pass"
