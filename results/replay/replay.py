"""A sealed attempt's score, made again from its artifact alone, in a sandbox that says what it is."""

import math
import os
import shutil
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from golf_core.rundir import ARTIFACT, BUNDLE, RUN, SCORES, RunDirError, read_json
from results.audit.finding import FAIL, PASS, REVIEW
from results.audit.record import REPLAY, Outcome, write_outcome
from results.collect import Collected
from results.evidence import STAGES, RecipeEvidence
from results.facts import Facts
from results.recount.attempts import source_of
from results.recount.count import Source, shards_of_run
from results.replay.jail import HOOK, NAMESPACES
from results.replay.sandbox import LEVELS, Limits, Ran, SandboxError, Work, run_in_sandbox, work_folder
from results.replay.trace import NAMED, Opened, opened

SPREADS = 3.0  # of null runs, by which a replay may differ
GROSS = 1e-3  # BPB: no other machine makes such a difference
SPARE_S = 600.0  # for a start, beyond twice the time that the evaluation took
MACHINE = (
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
)


@dataclass
class Replayed(Outcome):
    """What replays of one attempt found; one that told nothing is for a person."""

    untold = REVIEW


def replay_attempts(
    found: Collected,
    data: Path | None,
    tokenizer: Path | None,
    tell: Callable[[str], None],
    levels: Sequence[str] = LEVELS,
) -> dict[int, Replayed]:
    """A record of each counted seed, written beside it. Raises RunDirError where something is not at hand."""
    if found.spec.script is not None:
        raise SandboxError("a script has no command that scores its artifact alone: it cannot be replayed")
    source = source_of(found.spec, data, tokenizer, None)
    told = {}
    for seed, evidence in found.evidence.items():
        assert isinstance(evidence, RecipeEvidence)
        tell(f"replay, seed {seed}: scoring {evidence.folder / ARTIFACT} again")
        told[seed] = replay(evidence, source, found.spec.runs_dir, levels)
        write_outcome(found.spec.runs_dir, evidence.attempt_id, evidence.folder, REPLAY, told[seed])
    return told


def replay(evidence: RecipeEvidence, source: Source, runs_dir: Path, levels: Sequence[str] = LEVELS) -> Replayed:
    """Once; and where the score is another one, once more, to know how far apart two replays are."""
    found = Replayed()
    first, ran, seen = _score(evidence, source, levels)
    found.evidence |= {
        "sandbox": ran.level,
        "sandbox_words": ran.words,
        "seconds": round(ran.seconds, 3),
        "exit_code": ran.code,
        "opened": _told(seen),
    }
    _look(found, seen, source, runs_dir)
    if first is None:
        found.evidence["output"] = ran.output[-2000:]
        last = next((line for line in reversed(ran.output.splitlines()) if line.strip()), "it said nothing")
        why = "its time was over" if ran.timed_out else f"exit code {ran.code}: {last.strip()[:300]}"
        found.add(FAIL, f"it does not score from its artifact alone: {why}")
    else:
        _compare(found, evidence, first, lambda: _score(evidence, source, [ran.level])[0])
        _sizes(found, evidence, seen)
    found.add(REVIEW if ran.level == HOOK else PASS, f"sandbox {ran.words}")
    return found


def _score(evidence: RecipeEvidence, source: Source, levels: Sequence[str]) -> tuple[Facts | None, Ran, Opened]:
    """(what scores.json says, None where there is none; how it ran; what it opened)."""
    run = Facts(read_json(evidence.folder / RUN), str(evidence.folder / RUN))
    target = run.child("target")
    gpu = target.text("device") == "cuda"
    if gpu and not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/kfd").exists():
        raise SandboxError(f"{evidence.attempt_id} was scored on {target.maybe_text('gpu')}; this machine has no GPU")
    took = evidence.result.maybe_number("evaluate_seconds") or 0.0
    with work_folder() as work:
        for name in (BUNDLE, ARTIFACT):
            shutil.copyfile(evidence.folder / name, work.inside / name)
        for shard in shards_of_run(source).shards:
            work.show(shard.path, f"validation/{shard.path.name}")
        model = work.show(source.tokenizer, "tokenizer.model")
        env = {name: os.environ[name] for name in MACHINE if gpu and name in os.environ}
        env |= {
            "SEED": str(run.integer("seed")),
            "DATA_PATH": str(work.inside / "validation"),
            "TOKENIZER_PATH": str(model),
            "OMP_NUM_THREADS": str(target.integer("threads")),
        }
        env |= {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
        limits = Limits(seconds=2 * took + SPARE_S)
        ran = run_in_sandbox(work, lambda level: _command(work, target, level), env, limits, levels, gpu)
        seen = opened(ran.events, work, _began(evidence))
        path = work.outside / "files" / SCORES
        scores = Facts(read_json(path), SCORES) if ran.code == 0 and path.exists() else None
        return scores, ran, seen


def _began(evidence: RecipeEvidence) -> float | None:
    """When the sealed attempt was started, by the clock of the machine that it ran on."""
    try:
        return datetime.fromisoformat(evidence.result.text("started_at")).timestamp()
    except (ValueError, RunDirError):
        return None


def _command(work: Work, target: Facts, level: str) -> list[str]:
    """As the worker starts it; without a loopback in one process."""
    start = [sys.executable]
    if target.text("launcher") != "python" and level == NAMESPACES:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={target.integer('processes')}"]
    arguments = ["evaluate", "--artifact", str(work.inside / ARTIFACT), "--out", str(work.outside / "files")]
    return [*start, str(work.inside / BUNDLE), *arguments, "--dtype", target.text("dtype")]


def _look(found: Replayed, seen: Opened, source: Source, runs_dir: Path) -> None:
    """What it asked for that was none of its business. It was refused; that it asked is told."""
    if not seen.heard:
        found.add(REVIEW, "no Python of it told what it opened: the hook was left out, or its words taken away")
    private = [str(source.data.resolve()), str(runs_dir.resolve())]
    grave = [path for path in seen.outside if "_train_" in path or any(path.startswith(one) for one in private)]
    if grave:
        found.add(FAIL, f"it asked for what is not its own: {', '.join(grave[:NAMED])}")
    if other := [path for path in seen.outside if path not in grave]:
        found.add(REVIEW, f"it asked for files outside of the sandbox: {', '.join(other[:NAMED])}")
    if seen.network:
        found.add(FAIL, f"it asked the network: {', '.join(seen.network[:NAMED])}")
    if seen.recent:
        names = ", ".join(list(seen.recent)[:NAMED])
        found.add(REVIEW, f"files of Python or the system changed since the run began, and were read: {names}")
    if seen.unlisted:
        names = ", ".join(list(seen.unlisted)[:NAMED])
        size = sum(seen.unlisted.values())
        found.add(REVIEW, f"files in a folder of packages that no package lists ({size:,} bytes): {names}")


def _compare(found: Replayed, evidence: RecipeEvidence, first: Facts, again: Callable[[], Facts | None]) -> None:
    """Every stage's BPB against the sealed one."""
    names = [name for name in STAGES if evidence.stage(name) is not None]
    sealed = {name: _bpb(evidence.scores, name) for name in names}
    replayed = {name: _bpb(first, name) for name in names}
    found.evidence["stages"] = {name: {"sealed": sealed[name], "replayed": replayed[name]} for name in names}
    if missing := [name for name in names if replayed[name] is None]:
        found.add(FAIL, f"the replay has no stage {', '.join(missing)}")
        return
    for key in ("tokens", "bytes"):
        for name in names:
            ours, theirs = (one.child("stages").child(name).integer(key) for one in (evidence.scores, first))
            if ours != theirs:
                found.add(FAIL, f"{name}: the replay scored {theirs:,} {key}, the sealed attempt {ours:,}")
    last = names[-1]
    if sealed == replayed:
        found.add(PASS, f"{last} {sealed[last]:.8f} BPB again, to the last digit, as all {len(names)} stages")
        return
    second = again()
    spread = {name: _distance(replayed[name], None if second is None else _bpb(second, name)) for name in names}
    off = {name: _distance(sealed[name], replayed[name]) for name in names}
    worst = max(names, key=lambda name: off[name] - SPREADS * spread[name])
    found.evidence["null_spread"] = spread
    told = f"{worst} is {replayed[worst]:.8f} BPB, sealed {sealed[worst]:.8f}: {off[worst]:.2g} apart"
    told += f", two replays {spread[worst]:.2g}"
    if off[worst] <= SPREADS * spread[worst]:
        found.add(PASS, told)
    elif off[worst] < GROSS and (other := _other_machine(evidence)):
        found.add(REVIEW, f"{told}; this machine is another: {other}")
    else:
        found.add(FAIL, told)


def _bpb(scores: Facts, name: str) -> float | None:
    stages = scores.child("stages")
    return stages.child(name).number("val_bpb") if stages.has(name) else None


def _distance(a: float | None, b: float | None) -> float:
    return math.inf if a is None or b is None else abs(a - b)


def _other_machine(evidence: RecipeEvidence) -> str:
    """What of the sealed attempt's machine is not this one's; empty where nothing is."""
    from importlib.metadata import PackageNotFoundError, version

    packages = evidence.env.child("packages") if evidence.env.has("packages") else None
    told = packages.maybe_text("torch") if packages is not None else None
    try:
        here = version("torch")
    except PackageNotFoundError:
        here = None
    if told != here:
        return f"torch {told} there, {here} here"
    cpu = evidence.env.maybe_text("cpu")
    return f"scored on {cpu!r:.60}" if cpu and cpu not in Path("/proc/cpuinfo").read_text(errors="replace") else ""


def _sizes(found: Replayed, evidence: RecipeEvidence, seen: Opened) -> None:
    """Bytes of what was opened of its own, apart from data: at most what the sealed attempt counts."""
    counted = {name: size for name, size in seen.own.items() if not _is_data(name)}
    total, claimed = (
        sum(counted.values()),
        evidence.scores.integer("model_bytes") + evidence.scores.integer("code_bytes"),
    )
    found.evidence["counted_bytes"] = {"files": counted, "total": total, "sealed": claimed}
    told = ", ".join(f"{name} {size:,} B" for name, size in sorted(counted.items()))
    verdict = FAIL if total > claimed else PASS
    found.add(verdict, f"opened {told or 'nothing of its own'}: {total:,} of the {claimed:,} counted bytes")


def _is_data(name: str) -> bool:
    return name == "tokenizer.model" or name.startswith("validation/")


def _told(seen: Opened) -> Mapping[str, typing.Any]:
    """For a record: what was opened, shortened. Paths of this machine stay out, but for what was asked for."""
    return {
        "own": seen.own,
        "packages": {"files": seen.packages, "bytes": seen.package_bytes},
        "recent": dict(list(seen.recent.items())[:NAMED]),
        "unlisted": dict(list(seen.unlisted.items())[:NAMED]),
        "outside": seen.outside[:NAMED],
        "network": seen.network[:NAMED],
        "programs": sorted({os.path.basename(one) for one in seen.programs})[:NAMED],
        "seen_by": "a hook in each Python, and the files mapped at its end",
    }
