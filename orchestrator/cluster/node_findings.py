"""What a survey means: a line a node, and one for each thing on it that is wrong or doubtful, with the mend. Pure.

Nodes that no attempt would run on (a head without GPUs beside nodes that have some) need Ray and Python alone.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator import errors
from orchestrator.cluster.address import OLDEST_RAY
from orchestrator.cluster.survey import KERNELS, NodeFacts, Survey
from orchestrator.doctor.finding import ATTEMPT_BYTES, OK, SCARCE_BYTES, WARNING, WRONG, Finding
from orchestrator.errors import BackendFailure
from orchestrator.hardware.placement import short_name
from orchestrator.lock import Requirement, numbers, python_asked, requirements
from orchestrator.spec import Data

CLOCK_SECONDS = 5.0  # a skew that would confuse whoever reads two logs side by side
NEEDED = ("torch", "numpy", "sentencepiece", "zstandard", "brotli")  # by a bundle
INSTALL = "on it, in the Python that Ray runs in: pip install -r requirements.lock"


UNFIT = ("ray", "python", "packages", "disk")  # wrong, these end every attempt there, and by no fault from outside


def refuse_unfit(survey: Survey, root: Path, storage: str | None = None) -> None:
    """Refuse a cluster on one of whose nodes every attempt would fail: nobody knows which node a seed will get. Raises
    BackendFailure. A node that does not answer may come back, and what is lost there is tried elsewhere."""
    wrong = [one for one in survey_findings(survey, root, None, storage) if one.state == WRONG and one.name in UNFIT]
    if wrong:
        more = (
            f"\nand {len(wrong) - 1} more: `python -m orchestrator doctor --on ray --address ...`" if wrong[1:] else ""
        )
        raise BackendFailure(f"{wrong[0].found}; {wrong[0].mend}{more}")


def survey_findings(
    survey: Survey, root: Path, here: str | None = None, storage: str | None = None
) -> Iterator[Finding]:
    """`root` holds the lock; `here` is Ray's version on this machine, where there is one."""
    asked = {one.name: one for one in requirements(root)}
    takers = survey.takers()
    yield from _ray(survey, here)
    for node in survey.nodes:
        yield from _node(node, node in takers, root, asked, storage)
    answered = [node for node in takers if node.answered]
    yield from _alike(answered)
    yield from _data(answered)
    for place in survey.lost:
        mend = "start Ray on it again, if it is wanted"
        yield Finding("node", WARNING, f"{place} was part of the cluster and is gone", mend)
    if not takers:
        yield Finding("node", WRONG, "the cluster has no live node", "ray start, on each machine", errors.BACKEND)


def _ray(survey: Survey, here: str | None) -> Iterator[Finding]:
    found = f"Ray {survey.ray} there, {here} here" if here else f"Ray {survey.ray}"
    if numbers(survey.ray) < numbers(OLDEST_RAY):
        yield Finding("ray", WRONG, found, f"install Ray {OLDEST_RAY} or newer on every node", errors.BACKEND)
    elif here and numbers(survey.ray)[:2] != numbers(here)[:2]:
        yield Finding("ray", WARNING, found, "the job server takes clients of other versions; the locked one is tried")
    else:
        yield Finding("ray", OK, found)


def _node(
    node: NodeFacts, takes: bool, root: Path, asked: dict[str, Requirement], storage: str | None
) -> Iterator[Finding]:
    short = node.short() + (", head" if node.is_head else "")
    if not node.answered:
        mend = "look at it: `ray status` on the head, its logs in /tmp/ray/session_latest/logs; end and start its Ray"
        yield Finding("node", WRONG, f"{short}: {node.error}", mend, errors.BACKEND)
        return
    yield Finding("node", OK, f"{short}: {_told(node, takes)}")
    wrong = list(_python(node, root))
    wrong += _packages(node, asked, storage) if takes else []
    wrong += [*_gpus(node), *_model(node), *_kernels(node), *_disk(node)] if takes else []
    wrong += _clock(node)
    for one in wrong:
        yield Finding(one.name, one.state, f"{short}: {one.found}", one.mend, one.exit_code)


def _told(node: NodeFacts, takes: bool) -> str:
    facts = [_gpus_told(node), f"Python {node.python}"]
    facts += [f"torch {node.packages.get('torch') or 'none'}"] if takes else []
    facts += [f"{node.cores} cores, {node.memory_bytes / 1e9:.0f} GB of memory"]
    facts += [] if node.disk_free_bytes is None else [f"{node.disk_free_bytes / 1e9:.0f} GB free at {node.node_dir}"]
    return ", ".join(facts) + ("" if takes else "; runs no attempts")


def _gpus_told(node: NodeFacts) -> str:
    if node.gpus:
        return " and ".join(f"{_count(node, name)}x {name}" for name in _names(node)) + _busy(node)
    return f"{node.declared_gpus} declared GPUs, simulated{_busy(node)}" if node.declared_gpus else "no GPU"


def _names(node: NodeFacts) -> list[str]:
    return sorted({str(gpu["name"]) for gpu in node.gpus})


def _count(node: NodeFacts, name: str) -> int:
    return sum(gpu["name"] == name for gpu in node.gpus)


def _busy(node: NodeFacts) -> str:
    return f" ({node.declared_gpus - node.free_gpus} busy)" if node.free_gpus < node.declared_gpus else ""


def _python(node: NodeFacts, root: Path) -> Iterator[Finding]:
    wanted, least = python_asked(root)
    if numbers(node.python) < least:
        mend = "a Python of that age on every node, and Ray in it"
        yield Finding("python", WRONG, f"Python {node.python}; {wanted} is needed", mend, errors.BACKEND)


def _packages(node: NodeFacts, asked: dict[str, Requirement], storage: str | None) -> Iterator[Finding]:
    needed = (*NEEDED, *(("nvidia-ml-py",) if node.gpus else ()), *(("fsspec",) if storage else ()))
    absent = [f"{name} ({asked[name].describe()})" for name in needed if not node.packages.get(name)]
    if absent:
        mend = f"{INSTALL}; or let submit do it: --install-packages"
        yield Finding("packages", WRONG, f"not installed: {', '.join(absent)}", mend, errors.BACKEND)
    for name in needed:
        version = node.packages.get(name)
        if version and asked[name].too_old(version):
            yield Finding("packages", WRONG, f"{name} {version}; {asked[name].describe()}", INSTALL, errors.BACKEND)
        elif version and not asked[name].as_locked(version):
            found = f"{name} {version}; {asked[name].describe()}"
            yield Finding("packages", WARNING, found, f"it may do, and nobody has tried it; {INSTALL}")
    if node.gpus and (node.packages.get("torch") or "").endswith("+cpu"):
        mend = "install the build of torch for these GPUs; README.md says how to choose it"
        yield Finding("packages", WRONG, f"torch {node.packages['torch']} cannot use its GPUs", mend, errors.BACKEND)


def _gpus(node: NodeFacts) -> Iterator[Finding]:
    """What was declared to Ray against what the driver shows."""
    there, declared = len(node.gpus), node.declared_gpus
    if declared and not there:
        yield Finding(
            "gpus",
            WARNING,
            f"{declared} GPUs are declared to Ray and the driver shows none: runs there are simulated, on the CPU, and "
            "pass no gate",
            "meant so? else look at nvidia-smi (is nvidia-ml-py installed?), and start Ray without --num-gpus",
        )
    elif declared > there:
        found = f"{declared} GPUs are declared to Ray, {there} are there"
        mend = f"find the missing one (nvidia-smi, dmesg), or start Ray with --num-gpus={there}"
        yield Finding("gpus", WRONG, found, mend, errors.BACKEND)
    elif declared < there:
        found = f"{there} GPUs are there, {declared} of them declared to Ray"
        yield Finding("gpus", WARNING, found, "start Ray without --num-gpus to give it all of them")
    if len(_names(node)) > 1:
        found = f"its GPUs are of several models: {', '.join(_names(node))}"
        yield Finding("gpus", WRONG, found, "start Ray with CUDA_VISIBLE_DEVICES naming those of one", errors.BACKEND)


def _model(node: NodeFacts) -> Iterator[Finding]:
    """What its labels say against what the driver shows: --gpus H100:8 goes by the labels."""
    if node.declared_gpus and not node.models:
        model = short_name(_names(node)[0]) if node.gpus else "MODEL"
        mend = f"start Ray on it with --labels gpu-type={model}"
        yield Finding("labels", WARNING, "no label tells its GPUs' model: --gpus MODEL:N passes it by", mend)
    real = {short_name(name).casefold() for name in _names(node)}
    if wrong := [one for one in node.models if real and short_name(one).casefold() not in real]:
        found = f"it is labelled {', '.join(wrong)} and has {', '.join(_names(node))}"
        yield Finding("labels", WRONG, found, "start Ray on it with the label of what it has", errors.BACKEND)


def _kernels(node: NodeFacts) -> Iterator[Finding]:
    """Optional attention kernels, which Hopper has use for."""
    hopper = any("H100" in name or "H200" in name for name in _names(node))
    if hopper and not any(node.packages.get(name) for name in KERNELS):
        mend = "install flash_attn_3 for more speed, as the record's authors did; or leave it so on every node"
        yield Finding("kernels", WARNING, "no flash_attn: attention by torch's own kernels", mend)


def _disk(node: NodeFacts) -> Iterator[Finding]:
    if node.disk_error:
        mend = "name another --node-dir, or let Ray's user write there"
        yield Finding("disk", WRONG, f"nothing can be written: {node.disk_error}", mend, errors.BACKEND)
    elif node.disk_free_bytes is not None and node.disk_free_bytes < SCARCE_BYTES:
        scarce = node.disk_free_bytes >= ATTEMPT_BYTES
        found = f"{node.disk_free_bytes / 1e9:.1f} GB free at {node.node_dir}; an attempt takes up to 0.2"
        mend = "make space there, or name another --node-dir"
        yield Finding("disk", WARNING if scarce else WRONG, found, mend, errors.OK if scarce else errors.BACKEND)


def _clock(node: NodeFacts) -> Iterator[Finding]:
    if node.clock_offset is not None and abs(node.clock_offset) - node.clock_error > CLOCK_SECONDS:
        way = "before" if node.clock_offset > 0 else "behind"
        found = f"its clock is {abs(node.clock_offset):.0f} s {way} the head's"
        yield Finding(
            "clock", WARNING, found, "set it by NTP: timedatectl set-ntp true (durations do not depend on it)"
        )


def _alike(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    """Seeds of one submission should run on the same Python and the same packages."""
    told = {"Python": [(node, node.python) for node in nodes]}
    for name in NEEDED:  # where it is absent, that is told of the node
        told[name] = [(node, version) for node in nodes if (version := node.packages.get(name))]
    for name in KERNELS:
        told[name] = [(node, node.packages.get(name) or "none") for node in nodes]
    for name, versions in told.items():
        if len({version for _, version in versions}) > 1:
            places = "; ".join(_places(versions))
            mend = f"make them the same, since seeds run on several nodes; {INSTALL}"
            yield Finding("alike", WARNING, f"{name} differs between nodes: {places}", mend)


def _places(versions: Sequence[tuple[NodeFacts, str]]) -> Iterator[str]:
    for version in sorted({version for _, version in versions}):
        at = [node.short() for node, one in versions if one == version]
        yield f"{version} at {', '.join(at[:3])}" + (f" and {len(at) - 3} more" if len(at) > 3 else "")


def _data(nodes: Sequence[NodeFacts]) -> Iterator[Finding]:
    good: dict[tuple[str, str], list[NodeFacts]] = {}
    shown: dict[tuple[str, str], Data] = {}
    for node in nodes:
        if node.data_error:
            mend = "the same folder on every node, or a file system that all of them see; docs/data.md fetches shards"
            yield Finding("data", WRONG, f"{node.short()}: {node.data_error}", mend, errors.USAGE)
        elif node.data is not None:
            key = (node.data.sha256, node.data.tokenizer_sha256)
            good.setdefault(key, []).append(node)
            shown[key] = node.data
    for key, there in good.items():
        found = f"{', '.join(node.short() for node in there)}: {shown[key].describe()}"
        if len(good) > 1:
            mend = "the nodes hold different data; bring one data set to all of them"
            yield Finding("data", WRONG, found, mend, errors.USAGE)
        elif shown[key].name is None:
            mend = "without a manifest nobody can tell whether it is as it was published"
            yield Finding("data", WARNING, found, mend)
        else:
            yield Finding("data", OK, found)
