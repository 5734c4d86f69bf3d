"""The submission folder: README.md, submission.json, train_gpt.py, a log a seed, requirements.txt. All computed.

The files are made in memory from sealed evidence; `pack` writes them, `verify` makes them again and compares.
"""

import json
import os
import shutil
import tempfile
import time
import typing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from golf_core.rundir import BUNDLE, LOG, RunDirError, file_sha256, read_json
from results.collect import Collected
from results.dataset import data_line
from results.facts import Facts
from results.gates import LEGAL, PASS, Gate
from results.project import Project
from results.readme import readme_text
from results.requirements import requirements_text
from results.rows import Row
from results.stats import mean, sample_sd
from results.untrusted import Folder, plain

FOLDER = "submission"
SUBMISSION = "submission.json"
README = "README.md"
REQUIREMENTS = "requirements.txt"
GENERATOR = "golf-orchestrator"
STALE_SECONDS = 600  # writing the folder takes less than a second
MAX_LOG_BYTES = 256 * 1024 * 1024


class PackError(Exception):
    """The folder cannot be made or must not be touched; the message says what to do."""


class NotFinished(PackError):
    """A registered seed has no counted attempt."""


@dataclass(frozen=True)
class Difference:
    place: str
    says: typing.Any
    evidence: typing.Any


def log_name(seed: int) -> str:
    return f"train_seed{seed}.log"


def submission_files(found: Collected, project: Project) -> dict[str, bytes]:
    """Every file of the submission folder. Raises NotFinished where a seed is missing, PackError where diagnostic."""
    if found.diagnostic_only:
        raise PackError(
            f"submission {found.spec.folder.name} is diagnostic_only: it may learn from validation text before it is "
            "scored, so nothing of it can be submitted; for a submission run a config with diagnostic_only=false"
        )
    if missing := [row for row in found.rows if not row.counted]:
        what = ", ".join(f"{row.seed} ({row.status})" for row in missing)
        raise NotFinished(f"seeds without a counted attempt: {what}; the same submit again runs what is missing")
    bundle = (found.spec.folder / BUNDLE).read_bytes()
    first = found.evidence[found.rows[0].seed]
    versions = first.env.child("packages").values if first.env.has("packages") else {}
    files = {
        BUNDLE: bundle,
        REQUIREMENTS: requirements_text(
            bundle.decode(errors="replace"), str(found.spec.folder / BUNDLE), versions
        ).encode(),
    }
    for seed, evidence in found.evidence.items():
        if evidence.sealed(LOG).integer("size") > MAX_LOG_BYTES:
            raise PackError(f"{evidence.folder / LOG} is larger than {MAX_LOG_BYTES} bytes; it cannot be submitted")
        files[log_name(seed)] = (evidence.folder / LOG).read_bytes()
    facts = submission_facts(found, project)
    files[README] = readme_text(found, facts, files[REQUIREMENTS].decode()).encode()
    facts["files"] = {name: _fingerprint(data) for name, data in sorted(files.items())}
    files[SUBMISSION] = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return files


def _fingerprint(data: bytes) -> dict[str, typing.Any]:
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


def submission_facts(found: Collected, project: Project) -> dict[str, typing.Any]:
    """submission.json, but for the list of files. `gaps` names what nobody computed or told us."""
    spec, rows = found.spec, found.rows
    bpb = [row.val_bpb for row in rows if row.val_bpb is not None]
    loss = [row.val_loss for row in rows if row.val_loss is not None]
    largest = max(rows, key=lambda row: row.artifact_bytes or 0)
    ends = [row.ended_at for row in rows if row.ended_at]
    default_name = " ".join([spec.recipe, *spec.overrides])
    gaps = [
        f"{key}: set it in golf.toml under [author]" for key in ("author", "github_id") if not getattr(project, key)
    ]
    return {
        "author": project.author,
        "github_id": project.github_id,
        "name": project.name or default_name,
        "date": (max(ends) if ends else spec.registered_at or "")[:10] or None,
        "track": "10min_16mb" if spec.is_record_track else "non_record_16mb",
        "val_bpb": mean(bpb),
        "val_bpb_std": sample_sd(bpb),
        "val_loss": mean(loss),
        "val_loss_std": sample_sd(loss),
        "seeds": [row.seed for row in rows],
        "seed_results": {str(row.seed): _seed_facts(row) for row in rows},
        "bytes_total": largest.artifact_bytes,
        "bytes_code": spec.code_bytes,
        "bytes_model": largest.model_bytes,
        "model_params": largest.parameters,
        "hardware": hardware(found),
        "pytorch_version": rows[0].torch,
        "python_version": found.evidence[rows[0].seed].env.maybe_text("python"),
        "recipe": spec.recipe,
        "overrides": list(spec.overrides),
        "policy": spec.policy_name,
        "gates": {gate.name: gate.to_dict() for gate in found.gates},
        "compliance": compliance(found.gates, rows),
        "gaps": gaps,
        "generated_by": GENERATOR,
        "submission_id": spec.submission_id,
        "bundle_sha256": spec.bundle_sha256,
        "data": data_line(rows),
        "data_sha256": spec.data_sha256,
        "tokenizer_sha256": spec.tokenizer_sha256,
    }


def _seed_facts(row: Row) -> dict[str, typing.Any]:
    """ttt_gain has the sign of the table: post - pre."""
    return {
        "val_loss": row.val_loss,
        "val_bpb": row.val_bpb,
        "pre_ttt_bpb": row.pre_ttt_bpb,
        "ttt_gain": row.ttt_gain_bpb,
        "steps": row.steps,
        "step_avg_ms": row.step_avg_ms,
        "train_time_s": row.train_seconds,
        "eval_time_s": row.evaluate_seconds,
        "artifact_bytes": row.artifact_bytes,
        "artifact_sha256": row.artifact_sha256,
        "attempt": row.attempt_id,
    }


def hardware(found: Collected) -> str:
    """The target in words, with what the worker saw."""
    row = found.rows[0]
    seen = f" ({row.hardware})" if row.hardware else ""
    if row.device == "cuda":
        what = f"{row.gpus}x{row.gpu or 'GPU'}"
    else:
        what = f"CPU, processes x threads: {row.processes} x {row.threads}"
    return f"{'SIMULATED ' if row.target_class == 'simulated' else ''}{what}, {row.dtype}{seen}"


def compliance(gates: list[Gate], rows: list[Row]) -> dict[str, bool | None]:
    """The challenge's flags; None is unknown, and never stands for true."""
    largest = max((row.artifact_bytes or 0 for row in rows), default=0)

    def under(values: list[float | None]) -> bool | None:
        return None if None in values else max(value for value in values if value is not None) <= 600.0

    return {
        "artifact_under_16mb": largest <= 16_000_000,
        "train_under_600s": under([row.train_seconds for row in rows]),
        "eval_under_600s": under([row.evaluate_seconds for row in rows]),
        "three_seeds": len(rows) >= 3,
        # The ledger's own word can refute it; to prove it somebody must audit the ledger, which is in the attempt.
        "score_first_ttt": False if any(row.legality not in (None, *LEGAL) for row in rows) else None,
        "policy_met": all(gate.verdict == PASS for gate in gates),
    }


def pack(found: Collected, project: Project, out: Path) -> bool:
    """Write the folder whole or not at all; False where it was there already, byte for byte."""
    files = submission_files(found, project)
    for scratch in out.parent.glob(f".{out.name}-*"):  # left by a process that was killed here
        if time.time() - scratch.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(scratch, ignore_errors=True)
    if out.exists() or out.is_symlink():
        if _is_same(out, files):
            return False
        _refuse_foreign(out, found.spec.submission_id)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        scratch.chmod(0o755)
        for name, data in files.items():
            (scratch / name).write_bytes(data)
        if out.exists():
            if _is_same(out, files):  # made by another process since we looked: others may be reading it
                return False
            old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
            os.rename(out, old / out.name)
            shutil.rmtree(old, ignore_errors=True)
        try:
            os.rename(scratch, out)
        except OSError:
            if not _is_same(out, files):  # not the identical work of another process
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return True


def _is_same(out: Path, files: dict[str, bytes]) -> bool:
    if out.is_symlink() or not out.is_dir() or {path.name for path in out.iterdir()} != set(files):
        return False
    return all(
        (path := out / name).is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
        for name, data in files.items()
    )


def _refuse_foreign(out: Path, submission_id: str) -> None:
    """Raise PackError unless every file in the folder is one that we wrote for this submission, unchanged."""
    away = "move it away or name another folder with --out"
    if out.is_symlink() or not out.is_dir():
        raise PackError(f"{out} is not a folder of ours; {away}")
    try:
        facts = read_json(out / SUBMISSION)
    except RunDirError:
        raise PackError(f"{out} holds no {SUBMISSION} of ours; {away}") from None
    if facts.get("generated_by") != GENERATOR or facts.get("submission_id") != submission_id:
        raise PackError(f"{out} is of another submission; {away}")
    known = facts.get("files")
    known = known if isinstance(known, dict) else {}
    for path in sorted(out.iterdir()):
        entry = known.get(path.name)
        if path.name == SUBMISSION:
            continue
        if not isinstance(entry, dict) or path.is_symlink() or not path.is_file():
            raise PackError(f"{path} is not from us; {away}")
        if entry.get("sha256") != file_sha256(path):
            raise PackError(f"{path} was changed by hand; {away}")


def verify(found: Collected, folder: Folder) -> list[Difference]:
    """Where a packed folder says other than what the sealed evidence gives. Names are its own, no evidence has them."""
    says = Facts(read_json(folder.path / SUBMISSION), plain(folder.path / SUBMISSION))
    author, github_id, name = (says.maybe_text(key) for key in ("author", "github_id", "name"))
    expected = submission_files(found, Project(author=author, github_id=github_id, name=name))
    differences: list[Difference] = []
    for name, data in expected.items():
        if not folder.has(name):
            differences.append(Difference(name, "missing", f"{len(data)} bytes"))
        elif name == SUBMISSION:
            differences += compare("", says.values, json.loads(data))
        elif folder.files[name].size != len(data) or (actual := folder.read(name, len(data))) != data:
            said = f"{folder.files[name].size} bytes" if folder.files[name].size != len(data) else _short(actual)
            differences.append(Difference(name, said, f"{len(data)} bytes, {_short(data)}"))
    for name in sorted(set(folder.files) - set(expected)):
        differences.append(Difference(name, "there", "not part of the submission"))
    return differences


def _short(data: bytes) -> str:
    return f"SHA-256 {sha256(data).hexdigest()[:12]}"


def compare(place: str, says: typing.Any, evidence: typing.Any) -> list[Difference]:
    """The leaves in which two JSON values differ, by path."""
    if isinstance(says, dict) and isinstance(evidence, dict):
        return [
            difference
            for key in sorted({*says, *evidence})
            for difference in compare(f"{place}.{key}".lstrip("."), says.get(key), evidence.get(key))
        ]
    return [] if says == evidence and type(says) is type(evidence) else [Difference(place, says, evidence)]
