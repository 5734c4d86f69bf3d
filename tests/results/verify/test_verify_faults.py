"""Each fault of a submission folder is found and named; its correct twin passes."""

import json
import shutil
import statistics
from dataclasses import replace

import pytest

from golf_core.policy import load_policy
from results.untrusted import Folder
from results.verify.check import check_logs
from tests.results.verify.folders import RATIO, Run, Submission

POLICY = load_policy("record-2026-03").to_dict()
TRUE = Submission()
BPB = [run.bpb for run in TRUE.runs]
LOSS = [run.loss for run in TRUE.runs]
MODELS = replace(TRUE, runs=tuple(replace(run, model_bytes=15_900_000 + 997 * i) for i, run in enumerate(TRUE.runs)))
LARGEST = max(run.total for run in MODELS.runs)
SEEDS = TRUE.facts["seed_results"]


def check(submission, folder):
    return check_logs(Folder(submission.write(folder)), POLICY)


def failed(checked):
    return {one.place: one.why for one in checked.findings if one.verdict == "fail"}


def changed(seed, **values):
    return {"seed_results": SEEDS | {seed: SEEDS[seed] | values}}


def headline(text):
    return TRUE.readme_text().replace("**val_bpb: 1.08054** (3-seed mean, std 0.00043) | **15.916 MB**", text)


@pytest.mark.parametrize("submission", [TRUE, MODELS, Submission((Run(7, 1.0812345),))], ids=["three", "sizes", "one"])
def test_a_true_folder_is_supported(submission, tmp_path):
    """Every claim passes with its source line, and of the gates only those that no log can answer are unknown."""
    checked = check(submission, tmp_path)
    assert {one.verdict for one in checked.findings} == {"pass"}, [one for one in checked.findings]
    assert all(":" in one.source or one.place == "train_gpt.py" for one in checked.findings)
    verdicts = {gate.name: gate.verdict for gate in checked.gates}
    unknown = {name for name, verdict in verdicts.items() if verdict == "unknown"}
    assert {"score first", "byte accounting", "timing"} <= unknown <= {*unknown, "significance"}
    assert verdicts["artifact"] == verdicts["train"] == verdicts["hardware"] == verdicts["evaluate: sum"] == "pass"
    assert not checked.passed  # unknown is no pass


FAULTS = {
    "population sd": ({"val_bpb_std": round(statistics.pstdev(BPB), 8)}, "val_bpb_std", "population sd"),
    "standard error": ({"val_bpb_std": round(statistics.stdev(BPB) / 3**0.5, 8)}, "val_bpb_std", "standard error"),
    "sd of nats": ({"val_bpb_std": round(statistics.stdev(LOSS), 8)}, "val_bpb_std", "sd of val_loss"),
    "best seed as mean": ({"val_bpb": min(BPB)}, "val_bpb", "best seed (1337) passed off as the mean of 3"),
    "another seed as mean": ({"val_bpb": BPB[2]}, "val_bpb", "seed 2025 alone"),
    "mean of two": (
        {"val_bpb": round((BPB[0] + BPB[2]) / 2, 8)},
        "val_bpb",
        "over 2 of the 3 seeds listed (without 42)",
    ),
    "sliding for ttt": ({"val_bpb": round(statistics.mean(BPB) + 0.0017, 8)}, "val_bpb", "sliding-window score"),
    "nats as bits": ({"val_bpb": round(statistics.mean(LOSS), 8)}, "val_bpb", "val_loss (nats per token)"),
    "bits as nats": ({"val_loss": round(statistics.mean(BPB), 8)}, "val_loss", "final val_bpb (bits per byte)"),
    "in no log": ({"val_bpb": 1.07012345}, "val_bpb", "no log of the folder gives this number"),
    "cut off": ({"val_bpb": 1.080541}, None, None),
    "cut off, not rounded": ({"val_loss": 2.791126}, "val_loss", "cut off"),
    "without code": ({"bytes_total": 15_900_000}, "bytes_total", "without the code"),
    "smaller than it is": ({"bytes_total": 15_816_200}, "bytes_total", "100,000 B bigger than claimed"),
    "code": ({"bytes_code": 15_000}, "bytes_code", ""),
    "another seed's score": (changed("42", val_bpb=BPB[0]), "seed_results.42.val_bpb", "the value of seed 1337"),
    "a seed's steps": (changed("42", steps=9000), "seed_results.42.steps", "no log"),
    "a seed's bytes": (
        changed("42", artifact_bytes=15_000_000),
        "seed_results.42.artifact_bytes",
        "bigger than claimed",
    ),
    "a shorter training": (changed("42", train_time_s=500.0), "seed_results.42.train_time_s", "no log"),
    "a seed too many": ({"seeds": [1337, 42, 2025, 2025]}, "seeds", "stands twice"),
    "count of seeds": ({"n_seeds": 5}, "n_seeds", "other than the seeds"),
    "a flag": ({"compliance": {"artifact_under_16mb": True, "three_seeds": True}}, None, None),
}


@pytest.mark.parametrize("changes, place, words", FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_number_is_named(changes, place, words, tmp_path):
    """The claim fails, the reason names what the number is instead, and nothing but it and what rests on it fails."""
    found = failed(check(replace(TRUE, changes=changes), tmp_path))
    if place is None:
        assert found == {}
    else:
        assert words in found[f"submission.json: {place}"], found


HEADLINES = {
    "MiB": ("**val_bpb: 1.08054** (3-seed mean) | **15.179 MB**", "artifact", "MiB written as MB"),
    "MiB without code": (
        "**val_bpb: 1.08054** (3-seed mean) | **15.163 MB**",
        "artifact",
        "without the code, and in MiB",
    ),
    "population sd": ("**val_bpb: 1.08054** (3-seed mean, std 0.00035)", "sd", "population sd"),
    "best seed": ("**val_bpb: 1.08012** (3-seed mean)", "val_bpb", "best seed (1337)"),
    "other count": ("**val_bpb: 1.08054** (5-seed mean)", "seeds", "other than the seeds"),
}


@pytest.mark.parametrize("text, label, words", HEADLINES.values(), ids=HEADLINES.keys())
def test_a_wrong_headline_is_named(text, label, words, tmp_path):
    """The README's first line is held to the logs too."""
    found = failed(check(replace(TRUE, readme=headline(text)), tmp_path))
    assert list(found) == [f"README.md:3 {label}"] and words in found[f"README.md:3 {label}"], found


def test_a_right_headline_in_mib_passes(tmp_path):
    """A size that says MiB is MiB."""
    assert failed(check(replace(TRUE, readme=headline("**val_bpb: 1.08054** | **15.179 MiB**")), tmp_path)) == {}


def test_a_seed_that_lies_is_found(tmp_path):
    """A log that printed another seed than its name: the seed and every number claimed for it fail."""
    runs = (*TRUE.runs[:2], replace(TRUE.runs[2], printed=7))
    checked = check(replace(TRUE, runs=runs), tmp_path)
    found = failed(checked)
    assert "printed seed 7" in found["submission.json: seeds"]
    assert "printed seed 7" in found["submission.json: seed_results.2025.val_bpb"]
    assert next(gate.verdict for gate in checked.gates if gate.name == "seeds") == "fail"
    mean = next(one for one in checked.findings if one.place == "submission.json: val_bpb")
    assert mean.verdict == "unknown" and "own" in mean.why


def test_one_log_under_two_seeds_is_found(tmp_path):
    """The same file, or the same numbers under another seed line, is one run told twice."""
    folder = TRUE.write(tmp_path)
    shutil.copy(folder / "train_seed42.log", folder / "train_seed2025.log")
    found = failed(check_logs(Folder(folder), POLICY))
    assert "seed 42" in found["submission.json: seeds"]
    twin = (folder / "train_seed42.log").read_text().replace("seed: 42", "seed: 2025")
    (folder / "train_seed2025.log").write_text(twin)
    found = failed(check_logs(Folder(folder), POLICY))
    assert "the same numbers to the digit: one run, told twice" in found["submission.json: seeds"]


def test_a_number_of_another_log_is_found(tmp_path):
    """A score that only a log of an unclaimed seed has is named with that log, and that log with the seeds gate."""
    folder = replace(TRUE, changes=changed("42", val_bpb=1.07912345)).write(tmp_path)
    (folder / "old_seed9.log").write_text(Run(9, 1.07912345).log())
    checked = check_logs(Folder(folder), POLICY)
    why = failed(checked)["submission.json: seed_results.42.val_bpb"]
    assert "another log (old_seed9.log:" in why and "seed 9" in why
    gate = next(gate for gate in checked.gates if gate.name == "seeds")
    assert gate.verdict == "unknown" and "best of more" in gate.why


def test_more_digits_than_the_log_has_are_a_fault(tmp_path):
    """Of a log with four decimals, eight cannot be known; the four can."""
    coarse = tuple(replace(run, bpb=round(run.bpb, 4), digits=4) for run in TRUE.runs)
    assert (
        failed(
            check(
                replace(
                    TRUE,
                    runs=coarse,
                    changes={
                        "val_loss": "DELETE",
                        "seed_results": {str(run.seed): {"val_bpb": run.bpb} for run in coarse},
                    },
                    readme="# x\n",
                ),
                tmp_path / "a",
            )
        )
        == {}
    )
    finer = {str(run.seed): {"val_bpb": run.bpb + 0.00002345} for run in coarse}
    found = failed(
        check(
            replace(TRUE, runs=coarse, changes={"val_loss": "DELETE", "seed_results": finer}, readme="# x\n"),
            tmp_path / "b",
        )
    )
    assert "more digits than the log supports: it has 4" in found["submission.json: seed_results.42.val_bpb"]


def test_bytes_per_token_must_fit(tmp_path):
    """A loss and a BPB of two evaluations, and seeds of two tokenizers, do not go together."""
    found = failed(check(replace(TRUE, changes={"val_loss": 2.9}), tmp_path / "a"))
    assert "cannot be of the same evaluation" in found["submission.json: val_loss/(val_bpb ln 2)"]
    runs = (*TRUE.runs[:2], replace(TRUE.runs[2], ratio=RATIO * 1.1))
    gates = {gate.name: gate for gate in check(replace(TRUE, runs=runs), tmp_path / "b").gates}
    assert gates["byte accounting"].verdict == "fail" and "the seeds differ" in gates["byte accounting"].why


def test_a_missing_log_leaves_the_mean_unknown(tmp_path):
    """Unknown is not pass; but a mean that is not even that of its own seed results is refuted without it."""
    folder = TRUE.write(tmp_path)
    (folder / "train_seed42.log").unlink()
    found = {one.place: one for one in check_logs(Folder(folder), POLICY).findings}
    assert found["submission.json: val_bpb"].verdict == "unknown"
    assert "there is no log of seed 42" in found["submission.json: val_bpb"].why
    replace(TRUE, changes={"val_bpb": 1.0}).write(folder)
    (folder / "train_seed42.log").unlink()
    assert "not the mean of its own" in failed(check_logs(Folder(folder), POLICY))["submission.json: val_bpb"]


GATES = {
    "artifact": ("model_bytes", 15_990_000, "fail"),
    "artifact to the byte": ("model_bytes", 16_000_000 - 16_200, "pass"),
    "artifact over by one": ("model_bytes", 16_000_001 - 16_200, "fail"),
    "train": ("train_ms", 600_151, "fail"),
    "train within the tolerance": ("train_ms", 600_150, "pass"),
    "training data": ("train_ms", 595_000, "fail"),
}


@pytest.mark.parametrize("name, change", GATES.items(), ids=GATES.keys())
def test_the_caps_are_inclusive_and_named(name, change, tmp_path):
    """The largest seed is held to the cap; a tolerance stands by its name in the limit."""
    figure, value, verdict = change
    runs = (replace(TRUE.runs[0], **{figure: value}), *TRUE.runs[1:])
    gates = {gate.name: gate for gate in check(replace(TRUE, runs=runs), tmp_path).gates}
    gate = gates[next(one for one in ("artifact", "training data", "train") if name.startswith(one))]
    assert (gate.verdict, gate.seed) == (verdict, TRUE.runs[0].seed), gate
    assert "last-step overshoot" in gates["train"].limit


CONFIGS = {
    "another setting": ({"settings": {"matrix_lr": 0.03}}, "fail", "matrix_lr: 0.02 / 0.03"),
    "other code": ({"code_bytes": 16_000}, "fail", "bytes of code differ"),
    "no settings": ({"settings": {}}, "pass", ""),
}


@pytest.mark.parametrize("change, verdict, words", CONFIGS.values(), ids=CONFIGS.keys())
def test_seeds_of_different_configurations_are_found(change, verdict, words, tmp_path):
    """By the settings that the logs print, or by the bytes of the code."""
    if "settings" in change:
        change = {"settings": TRUE.runs[1].settings | change["settings"]}
    runs = (TRUE.runs[0], replace(TRUE.runs[1], **change), TRUE.runs[2])
    gate = next(gate for gate in check(replace(TRUE, runs=runs), tmp_path).gates if gate.name == "same config")
    assert gate.verdict == verdict and words in gate.why


SPELLINGS = {
    "seeds as a table": ({"seeds": SEEDS, "seed_results": "DELETE"}, 15),
    "seed_scores": ({"seed_scores": BPB, "seed_results": "DELETE"}, 3),
    "mean_val_bpb": ({"mean_val_bpb": TRUE.facts["val_bpb"], "std_bpb": TRUE.facts["val_bpb_std"]}, 2),
    "gain as pre - post": ({"ttt_gain_mean_bpb": 0.0017}, 1),
    "gain as post - pre": ({"ttt_gain_bpb": -0.0017}, 1),
    "bytes as mean and max": ({"artifact_bytes_mean": 15_916_200, "artifact_bytes_max": 15_916_200}, 2),
    "a number a seed": ({"seed_results": {str(run.seed): run.bpb for run in TRUE.runs}}, 3),
    "milliseconds": ({"seed_results": {"seed_42": {"train_time_ms": 588_040, "bytes_total": 15_916_200}}}, 2),
}


@pytest.mark.parametrize("changes, count", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_of_the_race_is_read(changes, count, tmp_path):
    """Lists, tables, other names, both signs of the gain: read, and supported where true."""
    plain = check(TRUE, tmp_path / "plain")
    checked = check(replace(TRUE, changes=changes), tmp_path / "changed")
    known = {one.place for one in plain.findings} if "seed_results" not in changes else set()
    new = [one for one in checked.findings if one.place not in known and one.place.startswith("submission.json: ")]
    touched = [one for one in new if any(key in one.place for key in changes)]
    assert len(touched) >= count and {one.verdict for one in checked.findings} <= {"pass"}, checked.findings


COARSE = {
    "a whole number": {"val_bpb": 1},
    "one decimal": {"val_bpb": 1.1},
    "a spread of nothing": {"val_bpb_std": 0.0},
    "two decimals of nats": {"val_loss": 2.8},
}


@pytest.mark.parametrize("changes", COARSE.values(), ids=COARSE.keys())
def test_a_number_of_too_few_digits_supports_nothing(changes, tmp_path):
    """Rounded so far that much else would fit too, it is unknown, not passed."""
    found = {one.place: one for one in check(replace(TRUE, changes=changes), tmp_path).findings}
    assert found[f"submission.json: {next(iter(changes))}"].verdict == "unknown"


def test_a_number_of_few_digits_that_does_not_even_fit_is_refuted(tmp_path):
    """1.0 is no rounding of 1.08."""
    assert "submission.json: val_bpb" in failed(check(replace(TRUE, changes={"val_bpb": 1.0}), tmp_path))


def test_the_best_seed_may_be_told_as_such(tmp_path):
    """best_val_bpb, and a key or a headline that names its seed, are no means."""
    changes = {"best_val_bpb": min(BPB), "val_bpb_seed_42": BPB[1]}
    text = TRUE.readme_text().replace(
        "**val_bpb: 1.08054** (3-seed mean, std 0.00043)", "**val_bpb: 1.08099** (seed 42)"
    )
    checked = check(replace(TRUE, changes=changes, readme=text), tmp_path)
    assert {one.verdict for one in checked.findings} == {"pass"}, failed(checked)


def test_a_table_of_several_configurations_is_not_taken_for_the_seeds(tmp_path):
    """A seed twice: the table was not read, and says so. Seeds that no list has are unknown, each judged by its log."""
    more = "\n| Variant | Seed | val_bpb |\n|---|---|---|\n| a | 42 | 1.2 |\n| b | 42 | 1.3 |\n"
    checked = check(replace(TRUE, readme=TRUE.readme_text() + more), tmp_path / "a")
    assert failed(checked) == {} and any("has a seed twice" in one.why for one in checked.findings)
    folder = replace(TRUE, readme=TRUE.readme_text() + "\n| Seed | val_bpb |\n|---|---|\n| 9 | 1.09 |\n").write(
        tmp_path / "b"
    )
    (folder / "train_seed9.log").write_text(Run(9, 1.09).log())
    checked = check_logs(Folder(folder), POLICY)
    found = {one.place: one.verdict for one in checked.findings if one.verdict != "pass"}
    assert found == {"README.md: the seed table": "unknown"} and len(checked.findings) > 30


def test_a_copy_of_a_log_under_no_seed_is_no_other_run(tmp_path):
    """train.log beside the equal train_seed42.log: the named one is the source, nothing is told of another."""
    folder = TRUE.write(tmp_path)
    shutil.copy(folder / "train_seed42.log", folder / "train.log")
    checked = check_logs(Folder(folder), POLICY)
    assert failed(checked) == {} and not any("train.log" in note for note in checked.notes)
    one = next(one for one in checked.findings if one.place == "submission.json: seed_results.42.val_bpb")
    assert one.source.startswith("train_seed42.log:")


def test_other_numbers_are_told_and_never_pass(tmp_path):
    """A number without a known meaning is one unknown line, with its key."""
    checked = check(replace(TRUE, changes={"magic_quotient": 42, "delta_vs_base_bpb": -0.001}), tmp_path)
    found = [one for one in checked.findings if one.verdict == "unknown"]
    assert len(found) == 1 and "magic_quotient" in found[0].why and "delta_vs_base_bpb" in found[0].why


def test_the_mean_of_the_sizes_is_told_as_such(tmp_path):
    """bytes_total as the mean is a spelling of the race: supported, with the largest told beside it."""
    mean = round(statistics.mean(run.total for run in MODELS.runs))
    checked = check(replace(MODELS, changes={"bytes_total": mean}), tmp_path / "a")
    found = next(one for one in checked.findings if one.place == "submission.json: bytes_total")
    assert found.verdict == "pass" and f"the largest has {LARGEST:,} B" in found.why
    one = MODELS.runs[0].total
    found = failed(check(replace(MODELS, changes={"bytes_total": one}), tmp_path / "b"))
    assert "the artifact of seed 1337 alone" in found["submission.json: bytes_total"]


def test_json_says_the_same_as_the_table(tmp_path):
    """Every finding has place, value, source and verdict; numbers stay numbers."""
    told = json.loads(json.dumps(check(TRUE, tmp_path).to_dict(), allow_nan=False))
    assert told["schema_version"] == 1 and told["passed"] is False and len(told["claims"]) > 30
    first = next(one for one in told["claims"] if one["place"] == "submission.json: val_bpb")
    assert first["claimed"] == pytest.approx(first["value"], abs=1e-8) and first["verdict"] == "pass"
