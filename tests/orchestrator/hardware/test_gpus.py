"""GPU facts: NVML first, else rocm-smi, else none; and what the environment hides."""

import os
import shutil
import subprocess
import sys

import pytest

from orchestrator.environment import bundle_environment, describe_machine
from orchestrator.errors import UsageError
from orchestrator.hardware.gpus import installed_gpus, visible
from orchestrator.hardware.request import gpus_here
from orchestrator.settings import Settings
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml, install_rocm_smi
from tests.orchestrator.toy import ROOT

H100 = "NVIDIA H100 80GB HBM3"
FALSE_NVML = f"""
FALSE, NVML_CLOCK_SM = True, 1
class NVMLError(Exception): pass
def __getattr__(name): return lambda *arguments: 8 if name == "nvmlDeviceGetCount" else "{H100}"
"""
NO_DRIVER = fake_nvml([], silent=("nvmlInit",))


def test_nvml_tells_name_memory_driver_and_clocks(monkeypatch):
    """Each fact has its unit; bytes from older libraries become text."""
    install_nvml(monkeypatch, fake_nvml([H100]))
    (gpu,) = installed_gpus()
    assert gpu.to_dict() == {
        "name": H100,
        "source": "nvml",
        "uuid": "GPU-a0",
        "memory_bytes": 80 * 1024**3,
        "driver": "570.86.15",
        "clock_mhz": 1410,
        "max_clock_mhz": 1980,
        "power_limit_watts": 700.0,
    }


def test_what_a_gpu_does_not_tell_is_none(monkeypatch):
    """An unsupported question leaves its fact out and the others in."""
    silent = ("nvmlDeviceGetClockInfo", "nvmlDeviceGetMigMode", "nvmlDeviceGetMemoryInfo")
    install_nvml(monkeypatch, fake_nvml([H100], silent=silent))
    (gpu,) = installed_gpus()
    assert (gpu.clock_mhz, gpu.memory_bytes, gpu.max_clock_mhz) == (None, None, 1980)


def test_a_gpu_that_is_cut_into_instances_is_not_the_whole_one(monkeypatch):
    """MIG instances are listed in its place, under names that no policy asks for."""
    install_nvml(monkeypatch, fake_nvml([H100, H100], mig=(1,)))
    assert [gpu.name for gpu in installed_gpus()] == [H100, *[f"{H100} MIG 1g.10gb"] * 2]


@pytest.mark.parametrize("before", ["", "WARNING: a GPU is in a low-power state\n\n"])
def test_rocm_smi_is_asked_where_nvml_names_nothing(monkeypatch, tmp_path, before):
    """Name, memory, driver and id in the order of the cards, whatever is printed before the JSON."""
    install_nvml(monkeypatch, NO_DRIVER)
    install_rocm_smi(monkeypatch, tmp_path, ["AMD Instinct MI300X"] * 11, before)
    gpus = installed_gpus()
    assert [gpu.uuid for gpu in gpus] == [f"0x{index}" for index in range(11)]
    assert {(gpu.name, gpu.source, gpu.memory_bytes, gpu.driver) for gpu in gpus} == {
        ("AMD Instinct MI300X", "rocm-smi", 206141652992, "6.7.0")
    }
    assert gpus_here(None, Settings.resolve({}, {}, tmp_path)) == ["AMD Instinct MI300X"] * 11


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho '{'\n", "#!/bin/sh\necho '{\"card0\": 1}'\n"])
def test_a_rocm_smi_that_answers_nonsense_breaks_nothing(monkeypatch, tmp_path, text):
    """A failing tool or one that prints no JSON is no GPU; a card without facts is a nameless one."""
    install_nvml(monkeypatch, NO_DRIVER)
    (tmp_path / "rocm-smi").write_text(text)
    (tmp_path / "rocm-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert [gpu.name for gpu in installed_gpus()] in ([], ["AMD GPU"])


@pytest.mark.parametrize("module", [None, NO_DRIVER, fake_nvml([])], ids=["no library", "no driver", "no GPU"])
def test_without_gpus_there_are_none_and_the_error_says_what_to_do(monkeypatch, tmp_path, module):
    """None here; cuda is refused with the alternative; env.json has an empty list."""
    install_nvml(monkeypatch, module)
    monkeypatch.setattr("orchestrator.hardware.gpus.ROCM", ("rocm-smi-that-is-not-there",))
    assert installed_gpus() == []
    with pytest.raises(UsageError, match=r"no GPU is visible here .*--device cpu"):
        gpus_here(None, Settings.resolve({}, {}, tmp_path))
    assert describe_machine({"device": "cuda", "threads": 1})["gpus"] == []


def test_no_path_in_the_environment_puts_another_library_in_its_place(tmp_path):
    """A pynvml that names eight H100, first on PYTHONPATH: a plain import takes it, this machine's GPUs do not."""
    (tmp_path / "pynvml.py").write_text(FALSE_NVML)
    asked = (
        "import pynvml; from orchestrator.hardware.gpus import installed_gpus; "
        "print(pynvml.FALSE, len(installed_gpus()))"
    )
    env = dict(os.environ) | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    said = subprocess.run([sys.executable, "-c", asked], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert said.stdout == f"True {len(installed_gpus())}\n", said.stderr


@pytest.mark.skipif(shutil.which("nvidia-smi") or shutil.which("rocm-smi"), reason="this machine has GPUs")
def test_this_machine_has_none():
    """The real libraries, where there is no driver, say so without an error."""
    assert installed_gpus() == []


@pytest.mark.parametrize(
    "shown, expected",
    [
        ({}, [0, 1, 2]),
        ({"CUDA_VISIBLE_DEVICES": "2,0"}, [2, 0]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,2"}, [1]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-b,GPU-a0"}, [1, 0]),
        ({"HIP_VISIBLE_DEVICES": "1"}, [0, 1, 2]),
    ],
)
def test_what_is_hidden_is_not_counted(monkeypatch, shown, expected):
    """Numbers and beginnings of UUIDs, in their order, up to the first that means none."""
    install_nvml(monkeypatch, fake_nvml([H100] * 3))
    gpus = installed_gpus()
    assert visible(gpus, shown) == [gpus[index] for index in expected]


@pytest.mark.parametrize("shown", ["3", "GPU-x", "GPU-", "0,9"])
def test_a_name_of_no_gpu_is_refused(monkeypatch, shown):
    """A number too large, an unknown UUID, or one that several begin with: the message lists what there is."""
    install_nvml(monkeypatch, fake_nvml([H100] * 3))
    with pytest.raises(UsageError, match="GPU-a0, GPU-b0, GPU-c0"):
        visible(installed_gpus(), {"CUDA_VISIBLE_DEVICES": shown})


def test_on_rocm_its_own_variable_is_the_stronger(monkeypatch, tmp_path):
    """HIP_VISIBLE_DEVICES goes before CUDA_VISIBLE_DEVICES; a CPU target hides the GPUs from both."""
    install_nvml(monkeypatch, NO_DRIVER)
    install_rocm_smi(monkeypatch, tmp_path, ["MI300X"] * 3)
    gpus = installed_gpus()
    assert visible(gpus, {"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "1,2"}) == gpus[1:]
    assert visible(gpus, {"CUDA_VISIBLE_DEVICES": "0"}) == gpus[:1]
    seen = bundle_environment({"HIP_VISIBLE_DEVICES": "0"}, {"device": "cpu", "threads": 1})
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["HIP_VISIBLE_DEVICES"]) == ("", "-1")


def test_env_json_has_the_gpus_that_the_bundle_sees(monkeypatch):
    """With one of two hidden, one is written down, with its clocks; a CPU run writes none."""
    install_nvml(monkeypatch, fake_nvml([H100] * 2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    (gpu,) = describe_machine({"device": "cuda", "threads": 1})["gpus"]
    assert (gpu["uuid"], gpu["max_clock_mhz"]) == ("GPU-b0", 1980)
    assert describe_machine({"device": "cpu", "threads": 1})["gpus"] == []
