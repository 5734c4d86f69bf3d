"""Labelled training scripts to measure the audit on: tests/data/triage_scripts.tar.xz and how it is read.

All of them were written by us, after the published rules and after families of public submissions that a class and a
reason name; none of it is anybody else's code. `labels.jsonl` in it has one line a script: file, set, label (legal,
illegal, disputed: nobody has ruled), class, why, and the command it is run with where that matters. The set "dev" was
looked at while the checks were made; "held-out" was written by somebody who had not seen them. At the first look 22
of its 26 legal scripts passed (one cause failed the other four) and 37 of its 41 illegal ones were flagged; the
checks were mended after it, so that neither set says what unseen scripts give. A folder is one submission: its
train_gpt.py and what lies beside it.
"""

import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ARCHIVE = Path(__file__).resolve().parents[2] / "data" / "triage_scripts.tar.xz"
SETS = ("dev", "held-out")


@dataclass(frozen=True)
class Labelled:
    """One script of the archive."""

    file: str
    set: str
    label: str
    kind: str  # the class: which technique, or which rule is broken
    why: str
    run: str | None


def unpack(folder: Path) -> list[Labelled]:
    """All scripts, written below a folder."""
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:  # Python 3.11 has no filter before its fourth release
            file = archive.extractfile(member)
            if file is None or member.name.startswith("/") or ".." in member.name.split("/"):
                continue
            (folder / member.name).parent.mkdir(parents=True, exist_ok=True)
            (folder / member.name).write_bytes(file.read())
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    return [Labelled(one["file"], one["set"], one["label"], one["class"], one["why"], one["run"]) for one in rows]


def rates(verdicts: Iterable[tuple[str, str]]) -> dict[str, tuple[int, int, int, int]]:
    """Of (label, verdict): for each label how many there are, and of these how many pass, are for review, fail."""
    found: dict[str, list[int]] = {}
    for label, verdict in verdicts:
        counts = found.setdefault(label, [0, 0, 0, 0])
        counts[0] += 1
        counts[("pass", "review", "fail").index(verdict) + 1] += 1
    return {label: (of, passed, review, failed) for label, (of, passed, review, failed) in found.items()}
