"""`results compare` as a user types it: what may stand on a side, what is printed, and which exit code it ends with."""

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from golf_core.frontier import load_frontier
from golf_core.policy import PRACTISED, WRITTEN, load_policy
from golf_core.significance import Design, seeds_needed, welch
from results.claims import bpb_of
from results.cli import app
from results.compare import compare, rules_of
from results.sides import SideError, read_side
from tests.results.attempts import Runs
from tests.results.test_claims import BEST, fineweb
from tests.results.test_diagnostic import diagnostic

ROOT = Path(__file__).resolve().parents[2]
FRONTIER = load_frontier("2026-05-02")
R1514 = "1.07928348,1.07996676,1.08024795"
REAL_LOGS = os.environ.get("GOLF_TRAIN_LOGS")


def run(*words):
    """The command in this process: exit_code, stdout and stderr."""
    return CliRunner().invoke(app, ["compare", *words])


def compared(ours, theirs, policy=PRACTISED, runs_dir=Path("none"), ratio=None):
    chosen = load_policy(policy)
    sides = (read_side(ours, FRONTIER, runs_dir, ratio), read_side(theirs, FRONTIER, runs_dir))
    return compare(*sides, (policy, chosen.claim, chosen.seeds), FRONTIER)


def submitted(folder, scores, policy=WRITTEN):
    """A runs folder with one submission; None for a seed without an attempt."""
    runs = Runs(folder, policy=load_policy(policy).to_dict())
    for seed, score in zip(runs.seeds, scores, strict=True):
        if score is not None:
            runs.attempt(seed, stages=fineweb(score))
    return runs


def published(folder, scores, logs=True, **facts):
    """Somebody's submission folder, with a log of each seed that prints its score."""
    folder.mkdir(parents=True)
    seeds = {str(seed): {"val_bpb": score} for seed, score in scores.items()}
    (folder / "submission.json").write_text(json.dumps({"seeds": list(scores), "seed_results": seeds} | facts))
    for seed, score in scores.items() if logs else ():
        (folder / f"train_seed{seed}.log").write_text(log_of(seed, score))
    return folder


def log_of(seed, score):
    return (
        f"seed:{seed}\nstep:500/500 val_loss:1.9000 val_bpb:1.1000 train_time:590000ms step_avg:1180.00ms\n"
        f"final_int6_sliding_window_exact val_loss:{score * 1.6884:.8f} val_bpb:{score:.8f}\n"
    )


@pytest.mark.parametrize(
    "ours, theirs, p",
    [
        (R1514, "#1493", 0.0204),
        ("1529", "1514", 0.0009),
        ("#1769", "1736", 0.0625),
        ("1855", "1868", 0.1884),
        ("n=6,mean=1.060755,sd=0.000933", "#1868", 0.1884),
    ],
)
def test_published_comparisons_come_out_of_rows_values_and_summaries(ours, theirs, p):
    """The p-values of the race to three digits, whichever way the scores are given."""
    assert round(compared(ours, theirs).rules[0].judged.test.p, 4) == p


def test_every_form_names_both_rules_and_the_chosen_one():
    """Table, Markdown, CSV and JSON: each policy by name with its verdict, whatever was chosen."""
    for form in ("table", "md", "csv", "json"):
        done = run(R1514, "#1493", "--policy", PRACTISED, "--format", form)
        assert done.exit_code == 0 and WRITTEN in done.stdout and PRACTISED in done.stdout, done.stderr
        assert "0.0204" in done.stdout or "0.02041" in done.stdout


def test_the_exit_code_is_that_of_the_chosen_policy():
    """0 where its claim is met, 4 where it is not or where nobody can know."""
    assert run(R1514, "1493", "--policy", PRACTISED).exit_code == 0
    assert run(R1514, "1493", "--bytes-per-token", "SP8192").exit_code == 4
    unknown = run("1.06,1.061,1.062", "1493")  # better at all; without a loss the margin is not known
    assert unknown.exit_code == 4 and "never a pass" in unknown.stdout


def test_tables_keep_to_a_hundred_columns():
    """The widest content of each form for the eye: long names, a margin, both units."""
    done = run(R1514, "#1493", "--bytes-per-token", "SP8192")
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_json_has_the_numbers_behind_the_text():
    """Differences in both units by our ratio, power and seeds as golf_core.significance gives them."""
    told = json.loads(run(R1514, "#1493", "--bytes-per-token", "SP8192", "--json").stdout)
    assert (told["schema_version"], told["policy"], told["verdict"]) == (1, WRITTEN, "fail")
    assert told["difference_nats"] == pytest.approx(told["difference_bpb"] * 0.693147 * 3.72663, rel=1e-6)
    written, practised = told["rules"]
    a, b = told["ours"], FRONTIER.find("1493").sample
    design = Design(3, 3, a["sample_sd"], b.sd, 0.25)
    assert practised["power_for_gap_seen"] == pytest.approx(design.power(-told["difference_bpb"]))
    assert practised["shown_with_80_percent_bpb"] == pytest.approx(design.gap(0.8))
    assert practised["error_rate"] == pytest.approx(design.power(0))
    assert practised["seeds_needed_on_each_side"] == seeds_needed(
        -told["difference_bpb"], a["sample_sd"], b.sd, 0.25, 0.8
    )
    assert written["margin_bpb"] == pytest.approx(0.001936, abs=5e-7) and written["gap_beyond_margin_bpb"] < 0


def test_csv_has_a_row_a_rule():
    """Columns for the numbers of JSON, an empty cell for what is not known."""
    rows = list(csv.DictReader(io.StringIO(run("1.05,1.051,1.052", "1493", "--format", "csv").stdout)))
    assert [row["policy"] for row in rows] == [WRITTEN, PRACTISED]
    assert rows[0]["margin_bpb"] == "" and rows[0]["verdict"] == "unknown" and float(rows[1]["p"]) < 1e-3


def test_a_submission_is_held_against_the_row_of_its_own_policy(tmp_path):
    """No more is named than its id: sealed scores, its registered rule first, its own ratio for nats."""
    runs = submitted(tmp_path, [BEST - 0.0012, BEST - 0.0005, BEST - 0.0014], PRACTISED)
    done = run(runs.submission_id[:6], "--runs-dir", str(tmp_path))
    assert done.exit_code == 0 and f"{PRACTISED} (chosen)" in done.stdout, done.stderr
    assert "3.7267" in done.stdout and "the tokenizers differ" in done.stdout
    assert run(str(runs.folder), "--policy", WRITTEN).exit_code == 4


def test_an_unfinished_submission_gets_a_look_and_no_verdict(tmp_path):
    """Two of three seeds: interim p, corrected p, chance, advice to stop; exit code 3, for nothing failed yet."""
    runs = submitted(tmp_path, [BEST - 0.0012, BEST - 0.0005, None])
    done = run(runs.submission_id[:12], "--runs-dir", str(tmp_path))
    assert done.exit_code == 3 and "2 of 3" in done.stdout, done.stderr
    for words in ("p of an interim look", "p if success may stop it", f"Futile under {WRITTEN}:", "no correction"):
        assert words in done.stdout.replace("\n  ", " ")
    told = json.loads(run(runs.submission_id[:12], "--runs-dir", str(tmp_path), "--json").stdout)
    look = told["rules"][1]["look"]
    assert told["rules"][1]["verdict"] == "unknown" and look["p_early"] == pytest.approx(3 * look["p"])
    assert 0.5 < look["chance"] < look["chance_typical"]


def test_a_gap_in_the_list_is_no_planned_look(tmp_path):
    """The first seed is missing: a chance, and an interim p, but none for who would stop early."""
    runs = submitted(tmp_path, [None, BEST - 0.0012, BEST - 0.0005])
    told = json.loads(run(runs.submission_id, "--runs-dir", str(tmp_path), "--json").stdout)
    look = told["rules"][1]["look"]
    assert look["p_early"] is None and look["p"] < 0.2 and look["chance"] > 0.5
    assert told["interim"] and told["ours"]["registered"] == [1337, 42, 2025]


@settings(max_examples=12)
@given(
    ours=st.sampled_from(sorted(FRONTIER.bytes_per_token)),
    theirs=st.sampled_from([row for row in FRONTIER.rows if row.sample.sd is not None]),
    gap=st.floats(0.0, 0.02),
)
def test_power_is_for_the_margin_that_decides(ours, theirs, gap):
    """Under whichever tokenizers: the gap told for 80 % has 80 % under both margins, and a claim passes under both."""
    values = ",".join(f"{theirs.sample.mean - gap + off:.8f}" for off in (-0.0006, 0.0001, 0.0005))
    found = compared(values, theirs.name, WRITTEN, ratio=FRONTIER.bytes_per_token[ours])
    rule, sd = found.rules[0], found.ours.scored.sample.sd
    margins = [bpb_of(0.005, ratio) for ratio in (found.ratio, theirs.bytes_per_token)]
    design = Design(3, theirs.sample.n, sd, theirs.sample.sd, 0.01)
    assert min(design.power(rule.shown_likely - margin) for margin in margins) == pytest.approx(0.8, abs=1e-6)
    ps = [welch(found.ours.scored.sample, theirs.sample, margin).p for margin in margins]
    assert (rule.judged.verdict == "pass") == (max(ps) < 0.01)
    assert rule.seen == pytest.approx(-found.difference - max(margins))


def test_a_failed_seed_leaves_no_chance_to_tell(tmp_path):
    """A list that cannot be finished: exit code 1 as of `collect`, no look, and a note that names the seed."""
    runs = submitted(tmp_path, [BEST - 0.0012, None, BEST - 0.0005])
    words = (runs.submission_id, "--policy", PRACTISED, "--runs-dir", str(tmp_path))
    assert json.loads(run(*words, "--json").stdout)["rules"][0]["look"]["chance"] > 0.5
    runs.failed(runs.seeds[1])
    done = run(*words)
    assert done.exit_code == 1 and "chance of a claim" not in done.stdout and "--retry-failed" in done.stdout
    told = json.loads(run(*words, "--json").stdout)
    assert told["verdict"] == "unknown" and all(rule["look"] is None for rule in told["rules"])


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_a_comparison_keeps_to_the_terminal(tmp_path, monkeypatch, columns):
    """No line is wider than COLUMNS, of tables and sentences."""
    monkeypatch.setenv("COLUMNS", str(columns))
    runs = submitted(tmp_path, [1.055, 1.0552, None])
    done = run(runs.submission_id, "--runs-dir", str(tmp_path))
    assert done.exit_code == 3 and max(map(len, done.stdout.splitlines())) <= columns


def test_a_finished_submission_gets_no_look(tmp_path):
    """Its p is the registered one: no interim row, no correction."""
    runs = submitted(tmp_path, [1.05, 1.051, 1.052])
    done = run(runs.submission_id, "--runs-dir", str(tmp_path))
    assert (
        "interim" not in done.stdout
        and json.loads(run(runs.submission_id, "--runs-dir", str(tmp_path), "--json").stdout)["rules"][0]["look"]
        is None
    )


def test_scores_of_another_text_are_refused(tmp_path):
    """The embedded corpus against FineWeb: a usage error that says both sizes and what to compare with instead."""
    runs = Runs(tmp_path).all_attempts()
    done = run(runs.submission_id[:12], "--runs-dir", str(tmp_path))
    assert done.exit_code == 2 and done.stdout == ""
    assert "other validation text: ours has 345,000 bytes" in done.stderr and "name theirs" in done.stderr
    same = run(runs.submission_id[:12], str(runs.folder), "--runs-dir", str(tmp_path))
    assert same.exit_code == 4 and "ours - theirs" in same.stdout


def test_a_comparison_with_another_side_is_no_claim_against_the_frontier(tmp_path):
    """The rules are applied to any pair; what a claim would be against is said where it is another side."""
    assert "a claim under record-2026-03 is against the best row, #2135" in run(R1514, "1493").stdout.replace(
        "\n  ", " "
    )
    assert "is against" not in run("1.055,1.0551,1.056", "best").stdout
    assert "a thing is compared with itself" in run("1493", "#1493").stdout.replace("\n  ", " ")


def test_a_script_whose_text_nothing_shows_claims_nothing(tmp_path):
    """Logs whose bytes per token fit no tokenizer on that text are unknown, however good the scores."""
    names = [tmp_path / f"{seed}.log" for seed in (1, 2, 3)]
    for seed, path in enumerate(names, 1):
        path.write_text(
            log_of(seed, 0.9 + seed / 1000).replace(
                "sliding_window_exact val_loss:1", "sliding_window_exact val_loss:2"
            )
        )
    done = run(",".join(map(str, names)), "best")
    assert done.exit_code == 4 and "no known tokenizer's" in done.stdout.replace("\n  ", " "), done.stdout


def test_a_diagnostic_submission_has_no_scores(tmp_path):
    """Nothing of it may be compared."""
    runs = diagnostic(tmp_path)
    with pytest.raises(SideError, match="diagnostic_only: none of its numbers is a score"):
        read_side(runs.submission_id[:12], FRONTIER, runs.runs_dir)


def test_a_submission_without_a_score_names_its_seeds(tmp_path):
    """Registered, nothing counted yet: each seed with its state."""
    runs = Runs(tmp_path)
    with pytest.raises(SideError, match=r"no counted score yet .1337 missing, 42 missing, 2025 missing"):
        read_side(runs.submission_id[:12], FRONTIER, tmp_path)


def test_anybodys_folder_is_read_from_its_logs(tmp_path):
    """Scores of the logs, not of submission.json; with no logs its claims, and a note that says so."""
    scores = {42: 1.1152, 7: 1.1149, 314: 1.1158}
    lying = published(tmp_path / "lying", {seed: score - 0.05 for seed, score in scores.items()}, logs=False)
    for seed, score in scores.items():
        (lying / f"train_seed{seed}.log").write_text(log_of(seed, score))
    side = read_side(str(lying), FRONTIER, tmp_path)
    assert dict(side.scores) == scores and side.scored.bytes_per_token == pytest.approx(2.4359, abs=1e-3)
    claimed = read_side(str(published(tmp_path / "bare", scores, logs=False)), FRONTIER, tmp_path)
    assert dict(claimed.scores) == scores and claimed.scored.bytes_per_token is None
    assert any("what submission.json claims" in note for note in claimed.notes)


def test_logs_are_read_run_by_run(tmp_path):
    """Several logs with commas; the same run told twice counts once; one without a final score is refused."""
    for seed, score in ((1, 1.1152), (2, 1.1149)):
        (tmp_path / f"{seed}.log").write_text(log_of(seed, score))
    (tmp_path / "again.log").write_text(log_of(1, 1.1152))
    (tmp_path / "other.log").write_text(log_of(1, 1.1199))
    (tmp_path / "cut.log").write_text("seed:3\nstep:10/500 train_loss:5.0 train_time:1000ms step_avg:100.00ms\n")

    def side(*names):
        return read_side(",".join(str(tmp_path / name) for name in names), FRONTIER, tmp_path)

    assert side("1.log", "2.log").scores == ((1, 1.1152), (2, 1.1149))
    assert side("1.log", "2.log", "again.log").scored.sample.n == 2
    assert "one seed" in side("1.log", "other.log").scored.obstacle
    with pytest.raises(SideError, match=r"cut.log .* gives no final score"):
        side("1.log", "cut.log")


@pytest.mark.skipif(REAL_LOGS is None, reason="GOLF_TRAIN_LOGS names no folder of published logs")
def test_published_logs_give_the_published_t():
    """#1019's three logs against #549: t and df to the digit, straight from third-party logs."""
    logs = sorted(Path(REAL_LOGS).glob("records/*2026-03-25_ValCalib*.log"))
    test = compared(",".join(map(str, logs)), "549").test
    assert (round(test.t, 3), round(test.df, 3)) == (-11.834, 3.306)


WRONG = {
    "a name that nothing has": (["nothing"], "there are none. Give a submission id"),
    "a row that is not there": (["1.1,1.2,1.3", "#1494"], "frontier 2026-05-02 has no row '#1494'; did you mean"),
    "no BPB": (["107.9,1.08"], "'107.9' is no BPB"),
    "NaN": (["nan,1.08"], "'nan' is no file, row or submission, and no finite number"),
    "a summary without n": (["mean=1.06,sd=0.001"], "a summary is n=SEEDS"),
    "a negative sd": (["n=3,mean=1.06,sd=-1"], "not negative"),
    "an sd beyond the mean": (["n=3,mean=1.06,sd=2"], "more than the mean"),
    "more seeds than there are": (["n=1000000000,mean=1.06,sd=0.1"], "1 to 1,000,000 values"),
    "a long list of files that are none": ([",".join(["a" * 90] * 4)], "is no file, row or submission"),
    "a file and none": (["there.log," + "b" * 300], "'there.log' is a file, 'bbb"),
    "an sd that is none": (["n=3,mean=1.1,sd=abc"], "sd='abc' is no number"),
    "a key twice": (["n=3,mean=1.1,sd=0.1,n=4"], "n is given several times"),
    "nothing": ([","], "names no scores"),
    "theirs twice": (["1.1,1.2", "1493", "--against", "best"], "theirs is given twice"),
    "a policy without a claim": (["1.1,1.2", "--policy", "demo"], "demo has no claim rule"),
    "an unknown policy": (["1.1,1.2", "--policy", "record"], "did you mean 'record-2026-03'"),
    "an unknown frontier": (["1.1,1.2", "--frontier", "2026-05-01"], "did you mean '2026-05-02'"),
    "an unknown tokenizer": (["1.1,1.2", "--bytes-per-token", "SP99"], "SP1024"),
    "an empty part": (["1.07,,1.08"], "part 2 of 3 is empty"),
    "a number and a word": (["1.07,abc"], "'abc' is no file, row or submission, and no finite number"),
    "a log that is not there": (["nofile.log"], "there is no file or folder 'nofile.log'"),
    "no row": (["1.1,1.2", "--against", "4242"], "rows: best, "),
    "three sides": (["1.1,1.2", "1493", "1514"], "compare takes OURS and THEIRS"),
    "an unknown form": (["1.1,1.2", "--format", "html"], "table, csv, md, json"),
}


@pytest.mark.parametrize("words, said", WRONG.values(), ids=WRONG.keys())
def test_wrong_words_are_told_with_what_would_do(tmp_path, monkeypatch, words, said):
    """One line on stderr, nothing on stdout, exit code 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.log").write_text("")
    done = run(*words)
    assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_runs_by_itself(tmp_path):
    """`python -m results compare` in a process of its own, from another folder: the table, the exit code, no noise."""
    command = [sys.executable, "-m", "results", "compare", R1514, "#1493", "--policy", PRACTISED]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert (done.returncode, done.stderr) == (0, "") and "frontier-2026-04: met: p = 0.02042" in done.stdout


def test_digits_that_mean_two_things_are_not_guessed(tmp_path):
    """A pull request whose number also starts a submission's id: the message says how to write which."""
    digit = None
    for attempt in range(100):  # until an id starts with a digit from 1
        runs = Runs(tmp_path / str(attempt), code=f"# {attempt}\n").all_attempts()
        if runs.submission_id[0] in "123456789":
            digit = runs.submission_id[0]
            break
    row = dataclasses.replace(FRONTIER.best, pr=int(digit))
    frontier = dataclasses.replace(FRONTIER, rows=(row,))
    with pytest.raises(SideError, match=f"write #{digit}"):
        read_side(digit, frontier, runs.runs_dir)
    assert read_side(f"#{digit}", frontier, runs.runs_dir).scored.sample == row.sample


def test_a_users_rows_and_rule_are_used(tmp_path, monkeypatch):
    """A TOML file of rows and a policy file of one's own: both rules of the race stand beside it all the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.toml").write_text(
        'as_of = 2026-06-01\ntext = "mine"\ntypical_sd = 0.001\nbytes_per_token = {T = 3.0}\n'
        '[[row]]\nname = "old"\ndate = 2026-05-01\ntokenizer = "T"\nsource = "me"\nvalues = [1.2, 1.21, 1.22]\n'
    )
    caps = "artifact_bytes = 1\ntrain_seconds = 1\nevaluate_seconds = 1\nkill_after_seconds = 1\nseeds = 2\n"
    (tmp_path / "mine.toml").write_text(f'summary = "m"\n{caps}[claim]\nalpha = 0.05\nfrontier = "rows.toml"\n')
    done = run("1.10,1.11", "--policy", "mine.toml")
    assert done.exit_code == 0 and "mine (chosen)" in done.stdout and "old (2026-05-01)" in done.stdout, done.stderr
    assert WRITTEN in done.stdout and PRACTISED in done.stdout
    assert [name for name, _, _ in rules_of(("mine", load_policy(str(tmp_path / "mine.toml")).claim, 2))] == [
        "mine",
        WRITTEN,
        PRACTISED,
    ]


def test_files_that_a_shell_spread_are_one_side(tmp_path):
    """`*.log`, alone or before a row: one side, and a word of it; two files stay two sides."""
    names = [str(tmp_path / f"{seed}.log") for seed in (1, 2, 3)]
    for seed, name in enumerate(names, 1):
        Path(name).write_text(log_of(seed, 1.114 + seed / 1e4))
    for words in ((*names, "549"), (*names, "--against", "549"), names):
        done = run(*words, "--json")
        assert json.loads(done.stdout)["ours"]["n"] == 3 and "3 log files are read as one side" in done.stderr
    assert run(*names[:2], "--against", "549", "--json").stdout.count('"n": 2') == 1
    assert json.loads(run(*names[:2], "--json").stdout)["theirs"]["n"] == 1


def test_the_rows_are_listed():
    """What may stand for theirs, a row a line."""
    done = run("--rows")
    assert done.exit_code == 0 and all(str(row.pr or row.name) in done.stdout for row in FRONTIER.rows), done.output


def test_a_missing_ratio_names_its_option():
    """Where the margin is not known, how to tell it."""
    assert "--bytes-per-token" in run("1.06,1.061,1.062", "1493").stdout
