"""What is in an image on Modal: the lock's versions and no others; what is not pinned is refused before it is built."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from orchestrator.cloud.image import NEWEST, OLDEST, PACKAGES, image_python, pinned_packages, read_packages
from orchestrator.cluster.node_findings import NEEDED
from orchestrator.errors import USAGE, UsageError
from orchestrator.lock import normal, pins

ROOT = Path(__file__).resolve().parents[3]
WHEEL = "https://example.org/a/flash_attn_3-3.0.0-cp39-abi3-linux_x86_64.whl"
HASH = "#sha256=" + "0f" * 32


def closure(names):
    """What these bring with them here, where torch is built for a CPU: that for CUDA adds libraries of its own."""
    found, todo = set(), list(names)
    while todo:
        if (name := normal(todo.pop())) not in found:
            found.add(name)
            needed = [Requirement(one) for one in metadata.requires(name) or ()]
            todo += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def test_every_package_of_the_image_is_pinned_by_the_lock():
    """Those that are asked for, and all that they bring with them, is not left to the day on which it is built; but for
    torch's own CUDA libraries, which its default build pins itself, and the CPU build has none of."""
    packages = dict(one.split("==") for one in pinned_packages(ROOT))
    cuda = {name for name in closure(["torch"]) - set(pins(ROOT)) if name.startswith(("nvidia-", "cuda-", "triton"))}
    brought = closure(PACKAGES) - cuda
    assert set(packages) == brought == set(PACKAGES)
    assert packages == {name: pins(ROOT)[name] for name in packages}


def test_the_image_has_what_code_in_a_container_imports():
    """What a node of a cluster needs for a bundle, NVML for the look at the GPUs, and what prepares data."""
    imported = set()
    for folder in ("golf_core", "jobs", "orchestrator/worker", "orchestrator/hardware"):
        for path in (ROOT / folder).rglob("*.py"):
            imported |= set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    named = metadata.packages_distributions()
    distributions = {normal(name) for module in imported for name in named.get(module, ())}
    assert {*NEEDED, "nvidia-ml-py", "httpx2"} <= set(PACKAGES)
    assert distributions & set(pins(ROOT)) - {"modal"} <= set(PACKAGES)  # Modal brings its own client


def test_the_python_is_one_that_the_lock_was_made_for():
    """As its first line says: the caller's own where it is one of them."""
    told = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()[0]
    assert f"Python {image_python(OLDEST)} to {image_python(NEWEST)}" in told
    assert [image_python(one) for one in ((3, 10), (3, 11, 7), (3, 12), (3, 15))] == ["3.11", "3.11", "3.12", "3.13"]


@pytest.mark.parametrize(
    "text, expected",
    [
        (None, ()),
        (" , ", ()),
        ("einops==0.8.2", ("einops==0.8.2",)),
        ("einops == 0.8.2, numpy==2.4.6", ("einops==0.8.2", "numpy==2.4.6")),
        ("quack-kernels[cu13]==0.5.3", ("quack-kernels[cu13]==0.5.3",)),
        (f"flash-attn-3@{WHEEL}", (f"flash-attn-3 @ {WHEEL}",)),
        (f"flash_attn_3 @ {WHEEL}{HASH}", (f"flash_attn_3 @ {WHEEL}{HASH}",)),
    ],
)
def test_pinned_packages_are_taken(text, expected):
    """By version, or as a wheel by its address, with its hash or without; one of the lock in the lock's version."""
    assert read_packages(text, "--modal-packages", ROOT) == expected


def test_a_wheel_takes_the_place_of_a_package_of_the_lock():
    """Another build of torch in the lock's version, say: the image has one, not both."""
    wheel = "torch @ https://example.org/torch-2.13.0%2Bcu126-cp311-cp311-manylinux_2_28_x86_64.whl"
    packages = pinned_packages(ROOT, read_packages(wheel, "--modal-packages", ROOT))
    assert [one for one in packages if one.startswith("torch")] == [wheel]
    assert len(packages) == len(PACKAGES)


REFUSED = {
    "einops": "is not pinned",
    "einops>=0.8": "is not pinned",
    "einops==0.8.*": "is not pinned",
    "einops==": "is not pinned",
    "einops~=0.8": "is not pinned",
    "einops==0.8; python_version<'3.12'": "is not pinned",
    "--index-url https://me:planted@example.org/simple": "is not pinned",
    "git+https://planted@example.org/x.git": "is not pinned",
    "./planted/x.whl": "is not pinned",
    "numpy==2.0": "contradicts requirements.lock, which has numpy==2.4.6",
    "torch==2.13.1": "contradicts requirements.lock",
    "Typing_Extensions==4": "contradicts requirements.lock",
    "torch @ https://example.org/torch-2.9.0-cp311-cp311-linux_x86_64.whl": "contradicts requirements.lock",
    "einops==0.8.1,EINOPS==0.8.2": "is named twice",
    f"other @ {WHEEL}": "is a wheel of flash_attn_3, not of other",
    "x @ https://example.org/x-1.0.tar.gz": "is no wheel",
    "x @ http://example.org/x-1.0-py3-none-any.whl": "is no wheel",
    "x @ file:///x-1.0-py3-none-any.whl": "is no wheel",
    "x @ https://me:planted@example.org/x-1.0-py3-none-any.whl": "takes no password and no query",
    "x @ https://example.org/x-1.0-py3-none-any.whl?key=planted": "takes no password and no query",
    f"flash-attn-3 @ {WHEEL}#sha256=12": "64 hexadecimal digits",
    f"flash-attn-3 @ {WHEEL}#md5=12": "64 hexadecimal digits",
    "x @ https://[example.org/x-1.0-py3-none-any.whl": "is followed by no address",
}


@pytest.mark.parametrize("text, said", REFUSED.items(), ids=range(len(REFUSED)))
def test_an_unpinned_package_is_refused(text, said):
    """Exit code 2, with where it was asked for and how it is written; no password of it is shown."""
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        read_packages(text, "golf.toml: modal_packages", ROOT)
    assert refused.value.exit_code == USAGE and str(refused.value).startswith("golf.toml: modal_packages: ")
    assert "me:planted" not in str(refused.value) and "planted@" not in str(refused.value)
    if "lock" not in said and "twice" not in said and "hexa" not in said:
        assert "NAME==VERSION, or NAME @ https://" in str(refused.value)


@given(st.text(alphabet="aB1.-_=@ ,[]#+!/:", max_size=30))
def test_whatever_is_taken_is_pinned(text):
    """No text gets into an image without `==` and a version, or the address of a wheel; reading it again changes
    nothing."""
    try:
        packages = read_packages(text, "--modal-packages", ROOT)
    except UsageError:
        return
    for package in packages:
        assert re.fullmatch(r"[\w.-]+(\[[\w.-]+\])?(==\d[\w.!+-]*| @ https://.+\.whl.*)", package)
    assert read_packages(",".join(packages), "--modal-packages", ROOT) == packages


CONTAINER = """
import importlib.abc, sys
absent = set(sys.argv[1].split(","))
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)
sys.meta_path.insert(0, Absent())
for module in sys.argv[2].split(","):
    __import__(module)
"""
ENTERED = (
    *("jobs.train", "orchestrator.backends.modal_container", "orchestrator.worker.attempt", "golf_core.run"),
    *("golf_core.probe", "jobs.data_volume", "jobs.rescoring"),
)


def test_a_container_imports_nothing_that_the_image_lacks():
    """What Modal enters, the worker, and what it starts, where every other package of the lock is away. Modal's
    own client comes with what it needs."""
    there = closure([*PACKAGES, "modal"])
    away = {
        module
        for module, names in metadata.packages_distributions().items()
        if module not in ("golf_core", "jobs", "orchestrator") and not any(normal(name) in there for name in names)
    }
    done = subprocess.run(
        [sys.executable, "-c", CONTAINER, ",".join(sorted(away)), ",".join(ENTERED)],
        cwd=ROOT,
        env=os.environ | {"MODAL_IS_REMOTE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert {"ray", "pandas", "altair"} <= away and done.returncode == 0, done.stderr
