"""On the given logs of merged records and pull requests: right or silent. Skipped where they are not at hand."""

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from results.parse.reader import parse_file
from results.parse.run import ParsedRun

LOGS = Path(os.environ.get("GOLF_TRAIN_LOGS") or "absent")
pytestmark = pytest.mark.skipif(not LOGS.is_dir(), reason="GOLF_TRAIN_LOGS names no folder of real logs")
# Three claims of the given ones are of another stage than their logs end with, or have a digit that the log has not.
UNTELLABLE = 3
FIELDS = {
    **dict.fromkeys(("seed", "steps", "artifact_bytes", "code_bytes", "model_params", "world_size"), 0.0),
    **dict.fromkeys(("step_avg_ms", "train_time_s", "ttt_time_s", "eval_time_s"), 0.006),
    **dict.fromkeys(("pre_quant_bpb", "roundtrip_bpb", "sliding_bpb", "pre_ttt_bpb", "post_ttt_bpb"), 1e-9),
    **dict.fromkeys(("ttt_gain", "final_bpb", "final_val_loss"), 1e-9),
}


def rows(name: str) -> list[dict[str, str]]:
    with (LOGS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def records() -> list[tuple[dict[str, str], ParsedRun]]:
    """Each run of the truth that is still in its log: blanking took whole runs out of three of them."""
    found = []
    for row in rows("records_truth.csv"):
        number, count = map(int, row["run_in_file"].split("/"))
        runs = parse_file(LOGS / row["file"])
        if len(runs) == count:
            found.append((row, runs[number - 1]))
        elif number == count:
            found.append((row, runs[-1]))
    return found


def test_fields_of_records_are_right_or_unknown():
    """Of every field 95 % are right and none is wrong, nor is one found where the log has none."""
    counted: dict[str, Counter[str]] = {name: Counter() for name in FIELDS}
    for row, run in records():
        for name, tolerance in FIELDS.items():
            value, truth = getattr(run, name), row[name]
            if not truth:
                counted[name]["right" if value is None else "wrong"] += 1
            elif value is None:
                counted[name]["silent"] += 1
            else:
                sign = -1 if name == "ttt_gain" else 1  # the truth has the other sign
                counted[name]["right" if abs(sign * float(truth) - value) <= tolerance else "wrong"] += 1
    assert {name: counts["wrong"] for name, counts in counted.items() if counts["wrong"]} == {}
    assert all(counts["right"] >= 0.95 * counts.total() for counts in counted.values())


def test_claims_are_right_or_abstained_from():
    """97 % of the claims that a log contains are found; what is said beside them is bounded by what no log tells."""
    counts: Counter[str] = Counter()
    for row in rows("pull_requests_truth.csv"):
        if row["value_appears_in_log"] != "1":
            continue
        claim, value = row["claimed_val_bpb"], parse_file(LOGS / row["file"])[-1].final_bpb
        if value is None:
            counts["silent"] += 1
        else:
            printed = abs(value - float(claim)) <= 0.5000001 * 10.0 ** -len(claim.partition(".")[2])
            counts["right" if printed else "wrong"] += 1
    for row, run in records():
        right = run.final_bpb is not None and abs(run.final_bpb - float(row["final_bpb"])) < 1e-9
        counts["right" if right else "silent" if run.final_bpb is None else "wrong"] += 1
    assert counts["wrong"] <= UNTELLABLE
    assert counts["right"] >= 0.97 * counts.total()
