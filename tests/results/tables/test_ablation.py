"""The ablation and leaderboard tables: who is the base, what is compared, and what is said where nothing can be."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from golf_core.rundir import write_json
from results.collect import collect
from results.project import Project
from results.spec import UnknownSubmission
from results.tables.ablation import ablation_table, submissions_table
from results.tables.leaderboard import leaderboard_table
from results.tables.render import FORMS
from results.tables.variants import base_of, labels_of
from tests.results.attempts import CODE, Runs, stage
from tests.results.test_tables import row

NATS = 1.69  # val_loss over val_bpb
BASE = [1.11922988, 1.12002032, 1.11888882]


def variant(name, scores, *, grid="g", position=1, seeds=(1337, 42, 2025), base="g.base", **more):
    """Rows of a variant, a score each; None is a seed that failed."""
    rows = []
    for seed, score in zip(seeds, scores, strict=False):
        told = {"submission_id": f"{name}-id".ljust(64, "0"), "recipe": name, "seed": seed}
        told |= {"grid": grid, "grid_base": base if grid else None, "grid_position": position if grid else None}
        if score is None:
            rows.append(row(**told, status="failed (nan)"))
            continue
        facts = {
            "val_bpb": score,
            "val_loss": score * NATS,
            "val_bytes": 1000,
            "final_stage": "ttt",
            "hardware": "H100",
        }
        facts |= {"step_avg_ms": 82.37, "steps": 7284, "artifact_bytes": 15_900_000 + seed}
        rows.append(row(**{**told, **facts, **more}))
    return rows


def records(variants, base=0):
    return {one["variant"]: one for one in ablation_table(variants, base).objects}


def test_differences_intervals_and_units():
    """The record #1019 against #549: scipy's Welch interval, the same in nats, n, sample deviation, bytes."""
    ours = [1.11508120, 1.11437394, 1.11475014]
    found = records([variant("g.base", BASE), variant("g.new", ours, position=2, artifact_bytes=15_990_006)])["new"]
    interval = stats.ttest_ind(ours, BASE, equal_var=False).confidence_interval(0.95)
    assert math.isclose(found["delta_bpb"], sum(ours) / 3 - sum(BASE) / 3)
    assert math.isclose(found["delta_bpb_low"], interval.low, rel_tol=1e-9)
    assert math.isclose(found["delta_bpb_high"], interval.high, rel_tol=1e-9)
    for end in ("", "_low", "_high"):
        assert math.isclose(found[f"delta_nats{end}"], found[f"delta_bpb{end}"] * NATS)
    assert (found["n"], found["seeds"], found["no_interval"]) == (3, "3/3", None)
    assert found["delta_bytes"] == 15_990_006 - 15_902_025


def test_what_a_slower_step_costs():
    """1.5 ms a step cost S1 130 steps, at the base's training time; the steps that were made are told beside."""
    slower = variant("g.slow", BASE, position=2, step_avg_ms=83.87, steps=7155)
    found = records([variant("g.base", BASE), slower])["slow"]
    assert round(found["steps_won"]) == -130 and found["delta_steps"] == -129
    assert "-130" in ablation_table([variant("g.base", BASE), slower], 0).text()


def test_one_seed_has_no_interval_and_says_so():
    """Its difference is shown; the interval's cell tells why there is none, on either side."""
    single = variant("g.one", [1.1], position=2)
    shown = ablation_table([variant("g.base", BASE), single], 0)
    assert "none: n=1" in shown.text() and records([variant("g.base", BASE), single])["one"]["delta_bpb"] < 0
    found = records([variant("g.base", [1.1]), variant("g.new", BASE, position=2)])["new"]
    assert found["no_interval"] == "none: base n=1" and found["delta_bpb_low"] is None
    same = records([variant("g.base", [1.1, 1.1]), variant("g.new", [1.2, 1.2], position=2)])["new"]
    assert same["no_interval"] == "none: no spread"


def test_lost_and_failed_variants_are_shown():
    """A worse one has its plus sign, a failed seed its status, a variant without any score its row."""
    variants = [
        variant("g.base", BASE),
        variant("g.worse", [1.13, 1.131, 1.132], position=2),
        variant("g.broken", [1.12, None, 1.121], position=3),
        variant("g.dead", [None, None, None], position=4),
    ]
    table = ablation_table(variants, 0)
    found = {one["variant"]: one for one in table.objects}
    assert found["worse"]["delta_bpb"] > 0 and found["broken"]["seeds"] == "2/3" and found["dead"]["n"] == 0
    assert found["dead"]["delta_bpb"] is None and found["dead"]["val_bpb"] is None
    assert any("broken: seed 42 is failed (nan)" in note for note in table.notes)
    for form in FORMS:
        assert all(name in table.render(form) for name in ("worse", "broken", "dead"))


def test_other_text_machine_or_stage_is_told():
    """Scores of other text have no difference, steps of another machine none either; another stage is named."""
    variants = [
        variant("g.base", BASE),
        variant("g.text", BASE, position=2, val_bytes=999),
        variant("g.machine", BASE, position=3, hardware="A100"),
        variant("g.stage", BASE, position=4, final_stage="sliding"),
    ]
    found = records(variants)
    assert found["text"]["delta_bpb"] is None and "other text" in found["text"]["note"]
    assert found["machine"]["steps_won"] is None and "another machine" in found["machine"]["note"]
    assert found["machine"]["delta_bpb"] == 0 and "sliding" in found["stage"]["note"]


@given(order=st.permutations(range(4)))
def test_the_order_is_the_grids(order):
    """The base first, then places in the grid, in whatever order the submissions come."""
    variants = [variant(f"g.{name}", BASE, position=place) for place, name in enumerate(("base", "a", "b", "c"), 1)]
    given_order = [variants[i] for i in order]
    assert [one["variant"] for one in ablation_table(given_order, order.index(0)).objects] == ["base", "a", "b", "c"]
    assert [one["variant"] for one in ablation_table(given_order, order.index(2)).objects] == ["b", "base", "a", "c"]
    assert [one["variant"] for one in submissions_table(given_order, "t").objects] == ["base", "a", "b", "c"]


def test_the_base_is_chosen_or_the_grids_first():
    """By label, recipe or id; without a choice the grid's first; several grids or none have none."""
    one_grid = [variant("g.new", BASE, position=2), variant("g.base", BASE)]
    assert base_of(one_grid, None) == 1
    for chosen in ("new", "g.new", "g.new-id"):
        assert base_of(one_grid, chosen) == 0
    assert base_of([*one_grid, variant("other", BASE, grid=None)], None) is None
    assert base_of([variant("g.new", BASE, position=2)], None) is None
    for chosen, says in (("", "none of them"), ("zzz", "none of them; there are"), ("g", "several")):
        with pytest.raises(UnknownSubmission, match=says):
            base_of([variant("g.new", BASE), variant("g.old", BASE)] if chosen == "g" else one_grid, chosen)


def test_labels_tell_variants_apart():
    """What was set where recipes are the same, without what all share; the id where nothing else differs."""
    told = {"grid": None, "overrides": "a=1 b=2"}
    first, second = variant("r", BASE, **told), variant("r", BASE, grid=None, overrides="a=1")
    assert labels_of([first, second]) == ["r b=2", "r"]
    twice = [[row(1, recipe="r", submission_id=letter * 64)] for letter in "ab"]
    assert labels_of(twice) == [f"r ({letter * 12})" for letter in "ab"]
    script = [[row(1, recipe="train_gpt.py", script_env=env, submission_id=env)] for env in ("X=1 Y=2", "X=1 Y=3")]
    assert labels_of(script) == ["train_gpt.py Y=2", "train_gpt.py Y=3"]


@pytest.mark.parametrize("form", FORMS)
def test_stamps_survive_in_every_form(form):
    """A diagnostic variant and simulated hardware are told in text, and by column in CSV."""
    diagnostic = variant("g.d", BASE, position=2, diagnostic_only=True, val_bpb=None, val_loss=None, final_stage=None)
    text = ablation_table([variant("g.base", BASE), diagnostic], 0).render(form)
    assert "g.d,,g.d-id" in text and ",True,cpu," in text if form == "csv" else "DIAGNOSTIC ONLY" in text
    text = ablation_table([variant("g.base", BASE, target_class="simulated")], 0).render(form)
    assert ",simulated," in text if form == "csv" else "SIMULATED HARDWARE" in text


def test_a_grid_recorded_in_spec_json_is_found(tmp_path):
    """Name, base and place come back from spec.json; one from before has none and still loads."""
    runs = Runs(tmp_path / "runs").all_attempts()
    assert collect(runs.folder).rows[0].grid is None
    write_json(runs.folder / "spec.json", runs.spec | {"grid": {"name": "g", "base": "b", "position": 2, "of": 3}})
    found = collect(runs.folder).rows[0]
    assert (found.grid, found.grid_base, found.grid_position) == ("g", "b", 2)


def submission(tmp_path, name, bpb, **more):
    runs = Runs(tmp_path / "runs", recipe=name, code=CODE + f"# {name}\n", **more)
    for seed in runs.seeds:
        runs.attempt(seed, stages={"roundtrip": stage(bpb)})
    return runs


def test_the_leaderboard_has_the_columns_of_the_board(tmp_path):
    """Best first, score to four digits, author and link; what is pending has no number, in no form."""
    runs = [submission(tmp_path, "b", 1.25), submission(tmp_path, "a", 1.2)]
    waiting = Runs(tmp_path / "runs", recipe="c", code=CODE + "# c\n")
    waiting.attempt(1337, stages={"roundtrip": stage(1.1)})
    found = [collect(one.folder) for one in [*runs, waiting]]
    table = leaderboard_table(found, Project(author="Ada", github_id="ada"))
    assert table.cells[0] == ["Run", "Score", "Author", "Summary", "Date", "Info"]
    assert [line[:3] for line in table.cells[1:]] == [
        ["a", "1.2000", "Ada"],
        ["b", "1.2500", "Ada"],
        ["c", "pending (1/3 seeds)", "Ada"],
    ]
    assert "[info](records/track_non_record_16mb/2026-11-22_a/README.md)" in table.markdown()
    assert 'href="records/track_non_record_16mb/2026-11-22_a/README.md"' in table.html()
    assert all("1.1" not in table.render(form).replace("11-22", "") for form in ("table", "md", "html"))


def test_a_diagnostic_submission_has_no_score_on_the_board(tmp_path):
    """Its row says what it is instead of a number."""
    runs = Runs(tmp_path / "runs", seeds=(1,), code="CONFIG = Config(name='d', diagnostic_only=True)\n")
    runs.attempt(1, scores={"diagnostic_only": True, "final_stage": None})
    table = leaderboard_table([collect(runs.folder)], Project())
    assert table.cells[1][1] == "diagnostic" and "DIAGNOSTIC ONLY" in table.text()


@pytest.mark.parametrize("form", FORMS)
def test_a_simulated_submission_is_stamped_on_the_board(tmp_path, form):
    """Before its summary in every form, since nothing of it is a measurement."""
    runs = Runs(tmp_path / "runs", seeds=(1,), target_class="simulated").all_attempts()
    assert "SIMULATED HARDWARE; " in leaderboard_table([collect(runs.folder)], Project()).render(form)


def test_a_side_without_a_score_is_only_told_so():
    """No stage, no machine and no text is told of a variant, or a base, that has no score."""
    scored, lost = variant("g.base", BASE), variant("g.lost", [None, None, None], position=2)
    note = records([scored, lost])["lost"]["note"]
    assert "no score yet" in note and "stage" not in note and "machine" not in note and "text" not in note
    note = records([scored, lost], base=1)["base"]["note"]
    assert note == "the base has no score: nothing to compare with"


def test_what_was_set_for_all_is_in_the_title_or_in_each_label():
    """One submission with overrides does not read as its recipe; an ablation without a grid says them once."""
    one = variant("demo", BASE, grid=None, overrides="train.iterations=10")
    assert submissions_table([one], "All").objects[0]["variant"] == "demo train.iterations=10"
    other = variant("demo", BASE, grid=None, overrides="train.iterations=10 model.layers=3", submission_id="b" * 64)
    made = ablation_table([one, other], 0)
    assert "all with train.iterations=10" in made.title and "model.layers=3" in made.objects[1]["variant"]
