"""What an audit of a sealed attempt found, kept beside the attempts: runs/audits/<attempt id>/<name>.json.

An attempt is sealed when it ends, so what is found of it later cannot lie in it. A record names the attempt and the
SHA-256 of the seal that it was made for: of an attempt that was sealed again, or of another one, it says nothing.
Whoever can write in the runs folder can write a record; it spares a reviewer the wait, and `verify` makes it again.
"""

import re
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from golf_core.rundir import SEAL, RunDirError, file_sha256, read_json, write_json
from results.audit.finding import PASS, SEVERITY
from results.facts import Facts

AUDITS = "audits"  # in the runs folder
SCHEMA_VERSION = 1
RECOUNT, REPLAY, PROBE = "recount", "replay", "probe"
NAMES = (RECOUNT, REPLAY, PROBE)  # in the order in which they are shown; others follow
MAX_SAYS = 1000  # characters of the sentence
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_ATTEMPT = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,120}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass
class Outcome:
    """What an audit of one attempt found. `findings` are (verdict, sentence); without any, the verdict is `untold`."""

    findings: list[tuple[str, str]] = field(default_factory=list)
    evidence: dict[str, typing.Any] = field(default_factory=dict)
    untold: typing.ClassVar[str] = PASS

    def add(self, verdict: str, says: str) -> None:
        self.findings.append((verdict, says))

    @property
    def verdict(self) -> str:
        return max((verdict for verdict, _ in self.findings), key=SEVERITY.__getitem__, default=self.untold)

    @property
    def says(self) -> str:
        """The gravest first."""
        return "; ".join(says for _, says in sorted(self.findings, key=lambda one: -SEVERITY[one[0]]))


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished check of one sealed attempt."""

    name: str
    attempt_id: str
    seal_sha256: str
    verdict: str  # PASS, FAIL or REVIEW
    says: str  # one sentence, with the values
    evidence: dict[str, typing.Any]
    made_at: str  # UTC

    def __post_init__(self) -> None:
        for value, pattern, what in (
            (self.name, _NAME, "name"),
            (self.attempt_id, _ATTEMPT, "attempt_id"),
            (self.seal_sha256, _SHA256, "seal_sha256"),
        ):
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise RunDirError(f"an audit's record: {what} is {value!r:.80}, not {pattern.pattern}")
        if self.verdict not in SEVERITY:
            raise RunDirError(f"an audit's record: verdict is {self.verdict!r:.80}; there are {', '.join(SEVERITY)}")


def seal_of(attempt: Path) -> str:
    """The SHA-256 of an attempt's last seal, which a record is made for."""
    return file_sha256(attempt / SEAL)


def write_outcome(runs_dir: Path, attempt_id: str, folder: Path, name: str, outcome: Outcome) -> Path:
    """What an audit found of a sealed attempt that lies in `folder`, for its seal. Raises RunDirError."""
    return write_record(
        runs_dir,
        attempt_id,
        name,
        seal_sha256=seal_of(folder),
        verdict=outcome.verdict,
        says=outcome.says,
        evidence=outcome.evidence,
    )


def write_record(
    runs_dir: Path,
    attempt_id: str,
    name: str,
    *,
    seal_sha256: str,
    verdict: str,
    says: str,
    evidence: Mapping[str, typing.Any],
) -> Path:
    """Whole, by rename; one of an earlier check under the same name gives way. Raises RunDirError."""
    record = Record(
        name=name,
        attempt_id=attempt_id,
        seal_sha256=seal_sha256,
        verdict=verdict,
        says=_line(says),
        evidence=dict(evidence),
        made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    path = _place(runs_dir, attempt_id) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(record)})
    except (TypeError, ValueError) as error:
        raise RunDirError(f"{path}: its evidence is no JSON: {error}") from None
    return path


def read_records(runs_dir: Path, attempt_id: str, seal_sha256: str) -> list[Record]:
    """The records of the attempt under that seal, in the order of NAMES. What is not one of them, `ignored` names."""
    return _read(runs_dir, attempt_id, seal_sha256)[0]


def ignored(runs_dir: Path, attempt_id: str, seal_sha256: str) -> list[str]:
    """A sentence for each file in the attempt's folder of records that says nothing of it: damaged, or of another
    seal."""
    return _read(runs_dir, attempt_id, seal_sha256)[1]


def _read(runs_dir: Path, attempt_id: str, seal_sha256: str) -> tuple[list[Record], list[str]]:
    found: list[Record] = []
    refused: list[str] = []
    folder = _place(runs_dir, attempt_id)
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            record = _record(path)
        except RunDirError as error:
            refused.append(f"{error}: it is ignored")
            continue
        if (record.name, record.attempt_id) != (path.stem, attempt_id):
            refused.append(f"{path} is of {record.name} of {record.attempt_id}, not of where it lies: it is ignored")
        elif record.seal_sha256 != seal_sha256:
            refused.append(f"{path} was made for another seal ({record.seal_sha256[:12]}...): it is ignored")
        else:
            found.append(record)
    return sorted(found, key=lambda one: (_rank(one.name), one.name)), refused


def _rank(name: str) -> int:
    return NAMES.index(name) if name in NAMES else len(NAMES)


def _place(runs_dir: Path, attempt_id: str) -> Path:
    if not _ATTEMPT.fullmatch(attempt_id):
        raise RunDirError(f"{attempt_id!r:.80} is no attempt's id: no audit of it can be kept")
    return runs_dir / AUDITS / attempt_id


def _record(path: Path) -> Record:
    facts = Facts(read_json(path), str(path))
    facts.expect("schema_version", SCHEMA_VERSION, "this version of the program")
    return Record(
        **{key: facts.text(key) for key in ("name", "attempt_id", "seal_sha256", "verdict", "says", "made_at")},
        evidence=dict(facts.child("evidence").values),
    )


def _line(text: str) -> str:
    """One printable line."""
    return "".join(one if one.isprintable() else " " for one in text)[:MAX_SAYS]
