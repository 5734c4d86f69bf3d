"""The submission folder: README.md, submission.json, train_gpt.py, a log a seed, requirements.txt. All computed.

The files are made in memory from sealed evidence; `pack` writes them, `verify` makes them again and compares.
"""

import json
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

from golf_core.rundir import BUNDLE, LOG
from results.budget import headroom
from results.collect import Collected
from results.dataset import data_line
from results.facts import Facts
from results.gates import LEGAL, PASS, Gate
from results.project import Project
from results.readme import readme_text
from results.requirements import requirements_text
from results.rows import Row
from results.stats import mean, sample_sd
from results.tried import tried_beside
from results.untrusted import Folder, plain
from results.whole_folder import GENERATOR, PackError, fingerprint, write_whole

FOLDER = "submission"
SUBMISSION = "submission.json"
README = "README.md"
REQUIREMENTS = "requirements.txt"
# What the files say and how, as a number: raise it with every change of a key, a figure or a word in them, so that a
# folder of before is known for one, and is not taken for a forged one.
# 1 had no number, 2 no seeds beside the registered ones, 3 did not say where the data is from, 4 not what shows the
# order of scoring and learning
FORMAT = 5
MAX_LOG_BYTES = 256 * 1024 * 1024


class NotFinished(PackError):
    """A registered seed has no counted attempt."""


class NoScore(PackError):
    """A script's log tells no final score: the run counts, and nothing can be claimed of it."""


# What a folder of ours says of where it comes from, in every version.
IDENTITY = ("submission_id", "bundle_sha256", "data_sha256", "tokenizer_sha256", "seeds", "recipe", "policy")


@dataclass(frozen=True)
class Difference:
    place: str
    says: typing.Any
    evidence: typing.Any


def log_name(seed: int) -> str:
    return f"train_seed{seed}.log"


def refuse_diagnostic(found: Collected) -> None:
    if found.diagnostic_only:
        raise PackError(
            f"submission {found.spec.folder.name} is diagnostic_only: it may learn from validation text before it is "
            "scored, so nothing of it can be submitted; for a submission run a config with diagnostic_only=false"
        )


def submission_files(found: Collected, project: Project, only: Sequence[str] | None = None) -> dict[str, bytes]:
    """Every file of the submission folder. `only`: the ids of what was tried beside it when it was packed before.
    Raises NotFinished where a seed is missing, PackError where diagnostic."""
    refuse_diagnostic(found)
    if missing := [row for row in found.rows if not row.counted]:
        what = ", ".join(f"{row.seed} ({row.status})" for row in missing)
        raise NotFinished(
            f"seeds without a counted attempt: {what}; the same submit again runs what is missing, "
            "and `pack --draft` writes what there is"
        )
    if silent := [row for row in found.rows if row.val_bpb is None]:
        what = ", ".join(str(row.seed) for row in silent)
        raise NoScore(
            f"no final score is known for seed {what}: the log does not tell one (`python -m results parse LOG` says "
            "why), and nothing can be claimed without; `pack --draft` writes what there is"
        )
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
    tried = tried_beside(found, only)
    facts = submission_facts(found, project) | {"tried": [one.to_dict() for one in tried]}
    files[README] = readme_text(found, facts, files[REQUIREMENTS].decode(), tried).encode()
    facts["files"] = {name: fingerprint(data) for name, data in sorted(files.items())}
    files[SUBMISSION] = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    return files


def submission_facts(found: Collected, project: Project) -> dict[str, typing.Any]:
    """submission.json, but for the list of files. `gaps` names what nobody computed or told us."""
    spec, rows = found.spec, found.rows
    bpb = [row.val_bpb for row in rows if row.val_bpb is not None]
    loss = [row.val_loss for row in rows if row.val_loss is not None]
    largest = max(rows, key=lambda row: row.artifact_bytes or 0)
    ends = [row.ended_at for row in rows if row.ended_at]
    words = [] if spec.script is None else [spec.script.words]
    default_name = " ".join(word for word in [spec.recipe, *spec.overrides, *words] if word)
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
        "val_loss": mean(loss) if len(loss) == len(rows) else None,
        "val_loss_std": sample_sd(loss) if len(loss) == len(rows) else None,
        "seeds": [row.seed for row in rows],
        "other_seeds": [one.to_dict() for one in found.others],
        "seed_results": {str(row.seed): seed_facts(row) for row in rows},
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
        "headroom": {str(row.seed): headroom(row, spec.policy) for row in rows},
        "gaps": gaps,
        "generated_by": GENERATOR,
        "format_version": FORMAT,
        "submission_id": spec.submission_id,
        "bundle_sha256": spec.bundle_sha256,
        "data": data_line(rows, spec.data_name),
        "data_sha256": spec.data_sha256,
        "tokenizer_sha256": spec.tokenizer_sha256,
    }


def seed_facts(row: Row) -> dict[str, typing.Any]:
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
    dtype = "the script's own dtype" if row.dtype == "own" else row.dtype
    return f"{'SIMULATED ' if row.target_class == 'simulated' else ''}{what}, {dtype}{seen}"


def compliance(gates: list[Gate], rows: list[Row]) -> dict[str, bool | None]:
    """The challenge's flags; None is unknown, and never stands for true."""
    sizes = [row.artifact_bytes for row in rows]

    def under(values: Sequence[float | None], limit: float) -> bool | None:
        known = [value for value in values if value is not None]
        return False if any(value > limit for value in known) else None if len(known) < len(values) else True

    return {
        "artifact_under_16mb": under(sizes, 16_000_000),
        "train_under_600s": under([row.train_seconds for row in rows], 600.0),
        "eval_under_600s": under([row.evaluate_seconds for row in rows], 600.0),
        "three_seeds": len(rows) >= 3,
        # The ledger's own word can refute it; to prove it somebody must audit the ledger, which is in the attempt.
        "score_first_ttt": False if any(row.legality not in (None, *LEGAL) for row in rows) else None,
        "policy_met": all(gate.verdict == PASS for gate in gates),
    }


def pack(found: Collected, project: Project, out: Path) -> bool:
    """Write the folder whole or not at all; False where it was there already, byte for byte."""
    return write_whole(out, submission_files(found, project), SUBMISSION, found.spec.submission_id)


def other_version(folder: Folder) -> str:
    """That the folder was made by another version of this program, in words; empty where it was made by this one."""
    made = (folder.document(SUBMISSION) if folder.has(SUBMISSION) else {}).get("format_version", 1)
    if type(made) is int and made == FORMAT:
        return ""
    return (
        f"made by another version of this program (format {plain(made, 20)}, this one makes {FORMAT}): judged by its "
        "scores, times and sizes, not to the byte; what it says of gates and headroom is not compared, and `pack` "
        "makes it again"
    )


def verify(found: Collected, folder: Folder) -> list[Difference]:
    """Where a packed folder says other than what the sealed evidence gives. Names are its own, no evidence has them,
    and so is the list of what was tried beside it; the numbers in that list are not. Of a folder that another version
    made, logs, code and identity must be the same; its words need not be, and its numbers are judged as claims.
    Raises RunDirError where its submission.json has other types than ours."""
    if not folder.has(SUBMISSION):
        return [Difference(SUBMISSION, "missing", found.spec.submission_id)]
    document = folder.document(SUBMISSION)
    says = Facts(document, str(folder.path / SUBMISSION))
    author, github_id, name = (says.maybe_text(key) for key in ("author", "github_id", "name"))
    tried = says.items("tried") if says.has("tried") else []
    only = [str(one.get("submission_id")) for one in tried if isinstance(one, dict)]
    expected = submission_files(found, Project(author=author, github_id=github_id, name=name), only)
    differences: list[Difference] = []
    if other_version(folder):
        facts = json.loads(expected.pop(SUBMISSION))
        differences += [one for key in IDENTITY for one in compare(key, document.get(key), facts[key])]
        for name in (README, REQUIREMENTS):
            if len(expected.pop(name)) and not folder.has(name):
                differences.append(Difference(name, "missing", "part of every submission"))
    for name, data in expected.items():
        if not folder.has(name):
            differences.append(Difference(name, "missing", f"{len(data)} bytes"))
        elif name == SUBMISSION:
            differences += compare("", _floats(document), json.loads(data))
        elif folder.files[name].size != len(data):
            differences.append(Difference(name, f"{folder.files[name].size} bytes", f"{len(data)} bytes"))
        elif (actual := folder.read(name, len(data))) != data:
            differences.append(Difference(name, _short(actual), _short(data)))
    for name in sorted(set(folder.files) - {*expected, SUBMISSION, README, REQUIREMENTS}):
        differences.append(Difference(name, "there", "not part of the submission"))
    return differences


def _floats(value: typing.Any) -> typing.Any:
    """A document whose numbers with a fraction are Decimals, as json would read it."""
    if isinstance(value, dict):
        return {key: _floats(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_floats(one) for one in value]
    return float(value) if isinstance(value, Decimal) else value


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
