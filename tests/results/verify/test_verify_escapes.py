"""Lies that a reader could miss: in another unit, under another key, in another line of the README, in a copy."""

import re
import sys
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_core.policy import load_policy
from results.collect import collect
from results.pack import pack
from results.project import Project
from results.untrusted import Folder
from results.verify.check import check_logs
from results.verify.document import claims_of_document
from results.verify.logtext import places_of
from results.verify.readme import claims_of_readme
from results.verify.sealed import check_sealed
from results.verify.show import table_text
from tests.results.attempts import Runs
from tests.results.verify.folders import CODE, Run, Submission

POLICY = load_policy("record-2026-03").to_dict()
TRUE = Submission()
SEEDS = TRUE.facts["seed_results"]
QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def gate(checked, name):
    return next(one for one in checked.gates if one.name == name)


def by_place(submission, folder):
    return {one.place: one for one in check_logs(Folder(submission.write(folder)), POLICY).findings}


CLOCKS = {
    "seconds": "eval_time: {s:.3f}s",
    "whole seconds": "eval_time:{s:.0f}s",
    "milliseconds": "eval_time:{ms}ms",
    "in the key": "eval_time_ms:{ms}",
    "elapsed": "elapsed:{s:.3f}s",
    "below": "eval_time:{ms}ms\ntotal_eval_time:{s:.1f}s",
    "below alone": "\ntotal_eval_time:{s:.1f}s",
}


@QUICK
@given(st.sampled_from(sorted(CLOCKS)), st.integers(1, 599), st.integers(1, 599))
def test_evaluations_are_summed_in_every_unit(tmp_path, form, sliding, final):
    """Two stages that are over the cap together never pass, whatever the final one's clock looks like; two that are
    not never fail; and the sum is never less than a stage."""
    run = TRUE.runs[0]
    text = re.sub(r"(?m)^(?:pre-quantization|quantized val).*\n", "", run.log())
    text = re.sub(r"(?m)^(quantized_sliding_window .*) eval_time:\d+ms$", rf"\1 eval_time:{sliding * 1000}ms", text)
    clock = CLOCKS[form].format(s=final, ms=final * 1000)
    text = re.sub(r"(?m)^(legal_ttt_exact .*) eval_time:\d+ms$", lambda found: f"{found[1]} {clock}", text)
    folder = Submission((run,)).write(tmp_path)
    (folder / "train_seed1337.log").write_text(text)
    checked = check_logs(Folder(folder), POLICY)
    summed, stage = gate(checked, "evaluate: sum"), gate(checked, "evaluate: stage")
    assert summed.verdict in (("fail", "unknown") if sliding + final > 600 else ("pass", "unknown")), summed
    if stage.value and summed.value:
        assert float(summed.value.split()[0]) >= float(stage.value.split()[0])
    if form not in ("elapsed", "below alone") and sliding != final:
        assert summed.verdict == ("fail" if sliding + final > 600 else "pass"), (summed, clock)


def test_a_final_stage_without_a_time_leaves_the_sum_unknown(tmp_path):
    """What the log does not time may be the longest of all."""
    folder = Submission((TRUE.runs[0],)).write(tmp_path)
    text = re.sub(r"(?m)^(legal_ttt_exact .*) eval_time:\d+ms$", r"\1", TRUE.runs[0].log())
    (folder / "train_seed1337.log").write_text(text)
    assert gate(check_logs(Folder(folder), POLICY), "evaluate: sum").verdict == "unknown"


def test_a_stage_told_twice_is_summed_once(tmp_path):
    """A summary below that repeats a line with its score and time is no other stage."""
    run = TRUE.runs[0]
    folder = Submission((run,)).write(tmp_path)
    line = run.log().splitlines()[-1]
    (folder / "train_seed1337.log").write_text(f"{run.log()}done\nFinal BPB: {line}\n")
    assert gate(check_logs(Folder(folder), POLICY), "evaluate: sum").value == "487.000 s"


sizes = st.tuples(st.integers(15_900_000, 15_999_000), st.integers(1000, 60_000))


@QUICK
@given(st.lists(sizes, min_size=3, max_size=3), st.integers(500, 60_000), st.sampled_from([None, 0, 1, 2]))
def test_the_artifact_is_the_largest_of_all_that_may_be_shipped(tmp_path, parts, shipped, silent):
    """Of each seed the log's total or its model with the code that is here; a seed of unknown parts is no pass."""
    runs = tuple(
        replace(run, model_bytes=model, code_bytes=code) for run, (model, code) in zip(TRUE.runs, parts, strict=True)
    )
    folder = Submission(runs, code=b"#" * shipped).write(tmp_path)
    if silent is not None:
        path = folder / f"train_seed{runs[silent].seed}.log"
        path.write_text(re.sub(r"(?m)^(?:Code size|Serialized model).*\n", "", path.read_text()))
    one = gate(check_logs(Folder(folder), POLICY), "artifact")
    known = [max(run.total, 0 if i == silent else run.model_bytes + shipped) for i, run in enumerate(runs)]
    assert one.value == f"{max(known):,} B"
    assert one.verdict == ("fail" if max(known) > 16_000_000 else "pass" if silent is None else "unknown"), one


def test_the_code_that_is_shipped_may_be_claimed(tmp_path):
    """Where the logs of the seeds count different code, the size of the file that is here is true; no other is."""
    runs = (TRUE.runs[0], *(replace(run, code_bytes=17_000) for run in TRUE.runs[1:]))
    found = by_place(replace(TRUE, runs=runs, changes={"bytes_code": len(CODE)}), tmp_path / "a")
    assert found["submission.json: bytes_code"].verdict == found["train_gpt.py"].verdict == "pass"
    found = by_place(replace(TRUE, runs=runs, changes={"bytes_code": 16_999}), tmp_path / "b")
    assert found["submission.json: bytes_code"].verdict == found["train_gpt.py"].verdict == "fail"


keys = st.sampled_from(["mean", "note", "314", "42", "seed_7", "val_bpb", "final", "results", "gates", "tried", "x"])
trees = st.recursive(
    st.just(Decimal("1.0512345")) | st.text(max_size=3) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def leaves(value):
    if isinstance(value, dict):
        return sum(leaves(one) for one in value.values())
    return sum(leaves(one) for one in value) if isinstance(value, list) else int(isinstance(value, Decimal))


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["seed_results", "results", "gates", "headroom", "tried", "files", "val_bpb", "more", "seed"]),
    trees,
)
def test_no_number_of_a_document_vanishes(key, tree):
    """Each is a claim, is told as one without meaning, or is of a wrong type; wherever it stands."""
    found = claims_of_document({"seeds": [314, 42], key: tree}, "submission.json")
    told = len(found.claims) + len(found.other)
    assert told == leaves(tree) or (found.wrong and told < leaves(tree) and key == "val_bpb"), found


def test_what_stands_beside_the_seeds_hides_none_of_them(tmp_path):
    """Entries that are no seeds, whatever their number, leave each seed's claims judged; a mean among them too."""
    entries = SEEDS | {"42": SEEDS["42"] | {"val_bpb": 1.0512345, "final": {"val_bpb": 1.0512345}}}
    entries |= {"mean": {"val_bpb": 1.0512345}, "note": "x", "extra": {}, "more": {}, "other": {"val_bpb": 1.05}}
    found = by_place(replace(TRUE, changes={"seed_results": entries, "gates": {"artifact": {"value": 1}}}), tmp_path)
    assert found["submission.json: seed_results.42.val_bpb"].verdict == "fail"
    assert found["submission.json: seed_results.mean.val_bpb"].verdict == "fail"
    assert found["submission.json: seed_results.1337.val_bpb"].verdict == "pass"
    others = found["submission.json: others"]
    assert others.verdict == "unknown" and others.says == "3 numbers"
    assert "seed_results.42.final.val_bpb, seed_results.other.val_bpb, gates.artifact.value" in others.why


WRONG_LINES = {
    "a point": "- **Score**: 1.0500 val_bpb",
    "a numbered point": "1. Final score: 1.0500 BPB",
    "a mean over": "- Mean BPB over 3 seeds: 1.0500",
    "a quotation": "> **1.0500 BPB** (3-seed mean)",
    "a heading": "## Result: 1.0500 BPB",
    "html": "<b>val_bpb: 1.0500</b>",
    "a sentence": "Our 3-seed mean is 1.0500 BPB.",
    "a row of ours": "| Run | BPB |\n|---|---|\n| ours, 3 seeds | 1.0500 |\n| baseline | 1.2244 |",
    "a row a metric": "| Metric | Value |\n|---|---|\n| val_bpb (mean) | 1.0500 |\n| Layers | 11 |",
    "a metric of a seed": "| Metric | Value |\n|---|---|\n| val_bpb, seed 1337 | 1.0500 |",
    "a column a seed": "| Metric | 1337 | 42 | 2025 |\n|---|---|---|---|\n| val_bpb | 1.0500 | 1.08098765 | |",
    "seed #": "| seed # | BPB |\n|---|---|\n| 1337 | 1.0500 |",
    "Final": "| Seed | Final |\n|---|---|\n| 1337 | 1.0500 |\n| 42 | 1.08098765 |",
    "the best": "| Seed | BPB |\n|---|---|\n| 1337 | 1.08012345 |\n| **Best** | 1.0500 |",
}


@pytest.mark.parametrize("line", WRONG_LINES.values(), ids=WRONG_LINES.keys())
def test_a_wrong_score_in_any_form_of_a_readme_fails(line, tmp_path):
    """And its true twin passes."""
    found = by_place(replace(TRUE, readme=f"# Ours\n\n{line}\n"), tmp_path / "a")
    failed = [one for one in found.values() if one.verdict == "fail"]
    assert [one.says for one in failed] == ["1.0500"], found
    right = "1.0801" if re.search(r"1337|Best", line) else "1.0805"
    found = by_place(replace(TRUE, readme=f"# Ours\n\n{line.replace('1.0500', right)}\n"), tmp_path / "b")
    assert [one for one in found.values() if one.verdict == "fail"] == []
    assert any(one.says == right and one.verdict == "pass" for one in found.values()), found


LINES = [
    "We think of {} BPB as the end.",
    "After much work (see above) val_bpb: {}",
    "| what | bpb |\n|---|---|\n| x | {} |",
]
LINES += [
    "  * it went to {} bits per byte, almost",
    "### Ablation\n\n- val_bpb: {}",
    "x {} val_bpb; and so on, 7 times",
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=3), st.floats(0.5, 3.9), st.integers(3, 8))
def test_a_score_that_is_not_understood_is_told_once(lines, value, digits):
    """Wherever it stands outside of code: as a claim or as a number not judged, once; in code it is nothing."""
    text = f"{value:.{digits}f}"
    readme = "# x\n\n" + "\n\n".join(line.format(text) for line in lines)
    found, _ = claims_of_readme(readme, "README.md")
    assert [one.partition(" ")[0] for one in found.other] == [text] and not found.claims
    found, _ = claims_of_readme(f"# x\n\n```\n{readme}\n```\n", "README.md")
    assert not found.other and not found.claims


def test_somebody_elses_score_is_not_taken_for_ours(tmp_path):
    """Under a heading of others, in a line with more words, in their row: not judged, and not contradicted."""
    more = "\n## Baseline\n\n- val_bpb: 1.2244\n\nIt beats 1.0810 BPB by 0.0005 BPB.\n\n| Run | BPB |\n|---|---|\n"
    found = by_place(replace(TRUE, readme=TRUE.readme_text() + more + "| PR 1493 | 1.0811 |\n"), tmp_path)
    assert {place: one.verdict for place, one in found.items() if one.verdict != "pass"} == {
        "README.md: others": "unknown"
    }
    assert all(one in found["README.md: others"].why for one in ("1.2244", "1.0810", "1.0811"))


def copied(text, seed):
    return text.replace("seed: 1337", f"seed: {seed}").replace("r1337", f"r{seed}")


def with_losses(text, start):
    steps = "".join(f"{i * 100}/20000 train_loss: {start + 4 / i:.4f} train_time: 1.0m\n" for i in range(1, 15))
    return text.replace("5000/20000 val_loss", f"{steps}5000/20000 val_loss")


def seed_line(folder, seed):
    checked = check_logs(Folder(folder), POLICY)
    return next(one for one in checked.findings if one.says == f"seed {seed}")


def test_a_copy_with_a_changed_time_is_found(tmp_path):
    """Two seeds share no score and loss to eight digits."""
    folder = TRUE.write(tmp_path)
    text = copied(TRUE.runs[0].log(), 2025).replace("588040ms", "588041ms")
    (folder / "train_seed2025.log").write_text(text)
    one = seed_line(folder, 2025)
    assert one.verdict == "fail" and "the same score and loss to the digit: one run, told twice" in one.why


COPIES = {"its score": (2.5, True, "fail"), "another score": (2.5, False, "unknown"), "nothing": (2.6, False, "pass")}


@pytest.mark.parametrize("start, score, verdict", COPIES.values(), ids=COPIES.keys())
def test_two_seeds_with_the_losses_of_one_training_are_found(start, score, verdict, tmp_path):
    """With the same score they are one run; with another it is not known that they are two."""
    runs = tuple(replace(run, digits=4, bpb=round(run.bpb, 4), train_ms=588_000 + run.seed) for run in TRUE.runs)
    runs = (*runs[:2], replace(runs[2], bpb=runs[0].bpb if score else runs[2].bpb))
    folder = replace(TRUE, runs=runs).write(tmp_path)
    for run, at in ((runs[0], 2.5), (runs[2], start)):
        (folder / f"train_seed{run.seed}.log").write_text(with_losses(run.log(), at))
    one = seed_line(folder, 2025)
    assert one.verdict == verdict and ("the same training losses at 14 of 14 steps" in one.why) == (verdict != "pass")


def test_a_longer_step_than_by_the_logs_clock_is_not_refuted(tmp_path):
    """As any time: another clock may have been meant; a shorter one is a lie."""
    for told, verdict in ((118.9, "unknown"), (100.0, "fail"), (117.608, "pass")):
        changes = {"seed_results": SEEDS | {"42": SEEDS["42"] | {"step_avg_ms": told}}}
        found = by_place(replace(TRUE, changes=changes), tmp_path)
        assert found["submission.json: seed_results.42.step_avg_ms"].verdict == verdict


@pytest.mark.parametrize("policy", ["demo", "record-2026-03"])
def test_a_folder_of_ours_has_no_number_untold(policy, tmp_path):
    """By its sealed attempts every claim is supported; by its logs alone its tables are read, those of gates too."""
    runs = Runs(tmp_path / "runs").all_attempts()
    found = collect(runs.folder)
    out = runs.folder / "submission"
    pack(found, Project(), out)
    checked = check_sealed(Folder(out), found, load_policy(policy).to_dict())
    assert {one.verdict for one in checked.findings} == {"pass"}, [x for x in checked.findings if x.verdict != "pass"]
    assert "| Gate | Value |" in (out / "README.md").read_text()
    told = check_logs(Folder(out), load_policy(policy).to_dict()).findings
    assert not any("twice" in one.why or one.verdict == "fail" for one in told)


def test_a_flag_is_judged_or_told(tmp_path):
    """A true one without a gate is unknown; what is neither true nor false is wrong; false and null claim nothing."""
    flags = {"no_slot": True, "three_seeds": True, "artifact_under_16mb": "yes", "no_ngram_cache": False, "x": None}
    found = by_place(replace(TRUE, changes={"compliance": flags | {"y": 1, "z": {"a": True}}}), tmp_path)
    told = {place.rpartition(".")[2]: one.verdict for place, one in found.items() if "compliance." in place}
    assert told == {
        "no_slot": "unknown",
        "three_seeds": "pass",
        "artifact_under_16mb": "fail",
        "y": "fail",
        "z": "fail",
    }


def test_an_unknown_gate_shows_no_value(tmp_path):
    """An interim p of two seeds is no value and no margin of the claim rule."""
    folder = Submission(TRUE.runs[:2]).write(tmp_path)
    one = gate(check_logs(Folder(folder), POLICY), "significance")
    assert (one.verdict, one.value, one.margin) == ("unknown", "", "")


def lines_run(folder, names, texts):
    """Lines of logtext.py that the look-up runs: the work that it does."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename.endswith("logtext.py") else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        found = places_of(folder, names, texts)
    finally:
        sys.settrace(before)
    return found, count


def test_one_pass_finds_every_number(tmp_path):
    """A thousand wrong claims cost no more than one: each line of a log is looked at once."""
    (tmp_path / "a.log").write_text("".join(f"step {i} of many: 1.{i:06d}, {i:,} bytes\n" for i in range(1500)))
    folder = Folder(tmp_path)
    _, alone = lines_run(folder, ["a.log"], {"2.000001"})
    found, many = lines_run(folder, ["a.log"], {"2.000001", *(f"1.{i:06d}" for i in range(700, 1700))})
    assert len(found) == 800 and found["1.001499"] == "a.log:1500" and many <= 2 * alone


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_the_text_fits_the_terminal(columns, tmp_path):
    """No line is wider; a wide place is filled."""
    lies = {"val_bpb": 1.0512345, "seed_results": SEEDS | {"42": {"val_bpb": 1.05, "x": {"y": 1}}}}
    checked = check_logs(Folder(replace(TRUE, changes=lies, code=CODE + b"#").write(tmp_path)), POLICY)
    wide = max(map(len, table_text(checked, columns).splitlines()))
    assert 0.8 * min(columns, 110) <= wide <= columns
    assert max(map(len, table_text(checked).splitlines())) <= 100


def test_one_run_is_no_other_seed(tmp_path):
    """Seeds whose scores agree to four digits alone are two runs."""
    runs = tuple(replace(run, bpb=1.0801, digits=4, train_ms=588_000 + i) for i, run in enumerate(TRUE.runs))
    checked = check_logs(Folder(Submission(runs, changes={"val_loss": "DELETE"}).write(tmp_path)), POLICY)
    assert {one.verdict for one in checked.findings if one.says.startswith("seed ")} == {"pass"}
    assert Run(1, 1.08).log() != Run(2, 1.08).log()
