"""What a controller on the head of a cluster is to do, as files that travel there and are read again."""

import hashlib
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from golf_core.rundir import read_json
from orchestrator.cluster.options import ClusterOptions
from orchestrator.errors import UsageError
from orchestrator.money.budget import Terms
from orchestrator.spec import SUBMISSION_DIGITS, Limits, Submission

FILE = "order.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Part:
    """A submission, and what it may take."""

    submission: Submission
    limits: Limits
    terms: Terms | None = None  # what was reserved for it; None: nothing is paid for
    canary: bool = False

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            "spec": self.submission.to_dict(""),
            "limits": self.limits.to_dict(),
            "terms": None if self.terms is None else self.terms.to_dict(),
            "canary": self.canary,
        }

    @classmethod
    def read(cls, told: Mapping[str, typing.Any], folder: Path) -> "Part":
        bundle = (folder / _bundle_file(told["spec"]["submission_id"])).read_text(encoding="utf-8")
        return cls(
            submission=Submission.from_dict(told["spec"], bundle),
            limits=Limits(**told["limits"]),
            terms=None if told["terms"] is None else Terms.from_dict(told["terms"]),
            canary=told["canary"],
        )


@dataclass(frozen=True, kw_only=True)
class Order:
    """One submission, or all variants of a grid, behind what rehearses for them."""

    parts: tuple[Part, ...]
    options: ClusterOptions
    rehearsals: tuple[Part, ...] = ()  # must come to their end before any part begins
    grid: str | None = None  # its name
    retry_failed: bool = False

    @property
    def key(self) -> str:
        """What its jobs are named after: what is asked for, not how."""
        return order_key([part.submission.submission_id for part in self.parts])

    def describe(self) -> str:
        """For whoever looks at the jobs of the cluster: Ray hands it on in an environment variable, so it is short."""
        first = self.parts[0].submission
        return f"grid {self.grid}: {len(self.parts)} submissions" if self.grid else f"submission {first.submission_id}"

    def files(self) -> dict[str, bytes]:
        told = {
            "schema_version": SCHEMA_VERSION,
            "parts": [part.to_dict() for part in self.parts],
            "rehearsals": [part.to_dict() for part in self.rehearsals],
            "options": self.options.to_dict(),
            "grid": self.grid,
            "retry_failed": self.retry_failed,
        }
        every = (part.submission for part in (*self.parts, *self.rehearsals))
        bundles = {_bundle_file(one.submission_id): one.bundle.encode() for one in every}
        return {FILE: json.dumps(told, sort_keys=True).encode(), **bundles}

    @classmethod
    def read(cls, folder: Path) -> "Order":
        """Raises UsageError where something in it was changed."""
        told: Mapping[str, typing.Any] = read_json(folder / FILE)
        if told.get("schema_version") != SCHEMA_VERSION:
            raise UsageError(f"the order has schema version {told.get('schema_version')}, not {SCHEMA_VERSION}")
        return cls(
            parts=tuple(Part.read(one, folder) for one in told["parts"]),
            rehearsals=tuple(Part.read(one, folder) for one in told["rehearsals"]),
            options=ClusterOptions.from_dict(told["options"]),
            grid=told["grid"],
            retry_failed=told["retry_failed"],
        )


def order_key(submission_ids: Sequence[str]) -> str:
    """
    >>> order_key(["0123456789abcdef"]), order_key(["a" * 64, "b" * 64])
    ('0123456789ab', 'fa0dafbf43f1')
    """
    one = (
        submission_ids[0] if len(submission_ids) == 1 else hashlib.sha256("".join(submission_ids).encode()).hexdigest()
    )
    return one[:SUBMISSION_DIGITS]


def _bundle_file(submission_id: str) -> str:
    return f"{submission_id[:SUBMISSION_DIGITS]}.train_gpt.py"
