"""verify on folders made of real logs (GOLF_TRAIN_LOGS): true claims are supported, planted lies are found."""

import csv
import json
import os
import re
import shutil
import statistics
from pathlib import Path

import pytest

from golf_core.policy import load_policy
from results.untrusted import Folder
from results.verify.check import check_logs

LOGS = Path(os.environ.get("GOLF_TRAIN_LOGS", ""))
TRUTH = LOGS / "records_truth.csv"
HAVE_LOGS = bool(os.environ.get("GOLF_TRAIN_LOGS")) and TRUTH.is_file()
pytestmark = pytest.mark.skipif(not HAVE_LOGS, reason="GOLF_TRAIN_LOGS names no folder of logs")
POLICY = load_policy("record-2026-03").to_dict()


def groups():
    """Three logs of each record that has three seeds or more, each with its row of the truth."""
    found = {}
    for row in csv.DictReader(TRUTH.read_text().splitlines()) if HAVE_LOGS else ():
        name = re.match(r"records/(\w+?__\d{4}-\d\d-\d\d_.+?)__(.+)", row["file"])
        if name and row["run_in_file"] == "1/1" and row["seed"] and row["final_bpb"] and "__" not in name[2]:
            found.setdefault(name[1], {}).setdefault(int(row["seed"]), row)
    return {name: list(rows.values())[:3] for name, rows in found.items() if len(rows) >= 3}


def digits(text):
    return len(text.partition(".")[2])


def build(folder, rows):
    """The record's folder again: its logs, and a submission.json and README.md that say what the truth says."""
    folder.mkdir()
    bpb = [float(row["final_bpb"]) for row in rows]
    places = min(digits(row["final_bpb"]) for row in rows)
    facts = {
        "val_bpb": round(statistics.mean(bpb), places),
        "val_bpb_std": round(statistics.stdev(bpb), places),
        "seeds": [int(row["seed"]) for row in rows],
        "seed_results": {},
    }
    lines = ["# A record", "", f"**val_bpb: {facts['val_bpb']:.{places}f}** (3-seed mean)", ""]
    lines += ["| Seed | Steps | val_bpb | Artifact (bytes) |", "|---|---|---|---|"]
    for row in rows:
        shutil.copy(LOGS / row["file"], folder / f"train_seed{row['seed']}.log")
        told = {"val_bpb": float(row["final_bpb"])}
        for key, column, kind in (
            ("val_loss", "final_val_loss", float),
            ("artifact_bytes", "artifact_bytes", int),
            ("steps", "steps", int),
            ("train_time_s", "train_time_s", float),
        ):
            if row[column]:
                told[key] = kind(row[column])
        facts["seed_results"][row["seed"]] = told
        lines.append(f"| {row['seed']} | {row['steps']} | {row['final_bpb']} | {row['artifact_bytes'] or '-'} |")
    if all(row["artifact_bytes"] for row in rows):
        facts["bytes_total"] = max(int(row["artifact_bytes"]) for row in rows)
    (folder / "README.md").write_text("\n".join(lines) + "\n")
    (folder / "submission.json").write_text(json.dumps(facts))
    (folder / "train_gpt.py").write_text("print()\n")
    return facts


def claims(folder):
    return [one for one in check_logs(Folder(folder), POLICY).findings if one.place != "train_gpt.py"]


@pytest.mark.parametrize("name", sorted(groups()) or ["no logs"])
def test_true_claims_are_supported_and_lies_are_not(name, tmp_path):
    """Nothing true is contradicted, the score of each seed that the parser reads is supported; a lie about the mean,
    about one seed, about the bytes is found."""
    rows = groups()[name]
    facts = build(tmp_path / "true", rows)
    found = claims(tmp_path / "true")
    assert [one for one in found if one.verdict == "fail"] == []
    scores = [one for one in found if one.place.endswith(".val_bpb") and "seed_results" in one.place]
    assert len(scores) == 3
    if any(one.verdict == "unknown" for one in scores):
        pytest.skip("the parser abstains on a seed")
    headline = next(one for one in found if one.place == "submission.json: val_bpb")
    assert headline.verdict == "pass" and re.fullmatch(r"train_seed\d+\.log:\d+ \+2", headline.source)
    best = min(facts["seed_results"].values(), key=lambda told: told["val_bpb"])["val_bpb"]
    seed = str(facts["seeds"][0])
    lies = {
        "val_bpb": best,
        "seed_results": facts["seed_results"] | {seed: {"val_bpb": facts["seed_results"][seed]["val_bpb"] - 0.01}},
        "val_bpb_std": statistics.pstdev([told["val_bpb"] for told in facts["seed_results"].values()]),
    }
    if "bytes_total" in facts:
        lies["bytes_total"] = facts["bytes_total"] - 100_000
    for key, lie in lies.items():
        (tmp_path / "true" / "submission.json").write_text(json.dumps(facts | {key: lie}))
        failed = [one for one in claims(tmp_path / "true") if one.verdict == "fail"]
        assert any(one.place.startswith(f"submission.json: {key}") for one in failed), (key, lie)
