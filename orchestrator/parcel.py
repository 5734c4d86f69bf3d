"""What travels to a cluster: our code, the text of the embedded corpus, and the order of a submit. Never data.

A parcel is a zip file, named by its content, so that it is sent once; the same code gives the same bytes. Jobs are
started in the folder that it is unpacked to, on every node.
"""

import hashlib
import io
import json
import typing
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import read_json
from orchestrator.budget import Terms
from orchestrator.cluster_options import ClusterOptions
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.spec import SUBMISSION_DIGITS, Limits, Submission

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("golf_core", "orchestrator")
KINDS = (".py", ".toml")
CORPUS = "data/sotu_1901_2026.jsonl.xz"
ORDER = "order"  # the folder of it in a parcel
ORDER_FILE = "order.json"
SCHEMA_VERSION = 1
MAX_BYTES = 20_000_000
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip file knows: the hash is of the content alone


@dataclass(frozen=True)
class Parcel:
    name: str
    data: bytes

    @property
    def uri(self) -> str:
        return f"gcs://{self.name}"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a controller on the head is to do: one submission, or all variants of a grid."""

    submissions: tuple[tuple[Submission, Limits], ...]
    options: ClusterOptions
    retry_failed: bool = False
    terms: tuple[Terms | None, ...] = ()  # what was reserved for each; nothing where nothing is paid for
    canary: bool = False

    @property
    def key(self) -> str:
        """What its jobs are named after."""
        ids = [submission.submission_id for submission, _ in self.submissions]
        return (ids[0] if len(ids) == 1 else hashlib.sha256("".join(ids).encode()).hexdigest())[:SUBMISSION_DIGITS]

    def files(self) -> dict[str, bytes]:
        told = {
            "schema_version": SCHEMA_VERSION,
            "submissions": [
                {"spec": submission.to_dict(""), "limits": limits.to_dict()} for submission, limits in self.submissions
            ],
            "options": self.options.to_dict(),
            "retry_failed": self.retry_failed,
            "terms": [None if one is None else one.to_dict() for one in self.terms],
            "canary": self.canary,
        }
        bundles = {_bundle_file(one.submission_id): one.bundle.encode() for one, _ in self.submissions}
        return {ORDER_FILE: json.dumps(told, sort_keys=True).encode(), **bundles}

    @classmethod
    def read(cls, folder: Path) -> "Order":
        """Of an unpacked parcel. Raises UsageError where something in it was changed."""
        told: Mapping[str, typing.Any] = read_json(folder / ORDER_FILE)
        if told.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(f"the order has schema version {told.get('schema_version')}, not {SCHEMA_VERSION}")
        submissions = []
        for one in told["submissions"]:
            bundle = (folder / _bundle_file(one["spec"]["submission_id"])).read_text(encoding="utf-8")
            submissions.append((Submission.from_dict(one["spec"], bundle), Limits(**one["limits"])))
        return cls(
            submissions=tuple(submissions),
            options=ClusterOptions.from_dict(told["options"]),
            retry_failed=told["retry_failed"],
            terms=tuple(None if one is None else Terms.from_dict(one) for one in told["terms"]),
            canary=told["canary"],
        )


def _bundle_file(submission_id: str) -> str:
    return f"{submission_id[:SUBMISSION_DIGITS]}.train_gpt.py"


def make_parcel(order: Order | None = None) -> Parcel:
    """Our code, and the order if there is one."""
    files = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*"))
        if path.suffix in KINDS and path.is_file()
    }
    if not (ROOT / CORPUS).is_file():
        raise UsageError(f"{ROOT / CORPUS} is missing: a cluster is given the code of a checkout of the project")
    files[CORPUS] = (ROOT / CORPUS).read_bytes()
    if order is not None:
        files |= {f"{ORDER}/{name}": data for name, data in order.files().items()}
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    if packed.tell() > MAX_BYTES:
        raise BackendFailure(f"the code for the cluster has {packed.tell():,} bytes; at most {MAX_BYTES:,} are sent")
    return Parcel(f"_ray_pkg_golf_{digest.hexdigest()[:32]}.zip", packed.getvalue())
