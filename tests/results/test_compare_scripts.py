"""`results compare` of scripts: which text they scored, what tells them apart; of submissions without a score."""

import dataclasses

import pytest
from typer.testing import CliRunner

from results.cli import app
from results.dataset import EMBEDDED_BYTES, EMBEDDED_SHA256
from tests.orchestrator.monoliths import MONOLITH, script_submission, sealed_runs
from tests.results.attempts import Runs, stage
from tests.results.test_script_rows import corpus  # noqa: F401 - a fixture


def compared(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, corpus):  # noqa: F811
    """Folders of three submissions of one script: two of the embedded corpus, one of data that nobody knows."""
    runs = tmp_path_factory.mktemp("scripts") / "runs"
    made = []
    for sha256, width in ((EMBEDDED_SHA256, "1"), (EMBEDDED_SHA256, "2"), ("d" * 64, "1")):
        env = (("ITERATIONS", "2"), ("STEP_SECONDS", "0.001"), ("WIDTH", width))
        asked = script_submission(corpus, MONOLITH, env, None, seeds=(1, 2, 3))
        made.append(sealed_runs(runs, dataclasses.replace(asked, data=dataclasses.replace(asked.data, sha256=sha256))))
    return made


def test_a_script_of_the_embedded_corpus_is_no_rival_of_a_row(scripts):
    """Refused like a recipe, on either side: the shards tell the text where the log does not."""
    for words in ((scripts[0], "1493"), ("1493", scripts[0])):
        done = compared(*words)
        assert (done.exit_code, done.stdout) == (2, "") and f"{EMBEDDED_BYTES:,}" in done.stderr, done.output


def test_a_text_that_nothing_shows_meets_no_rule(scripts, tmp_path):
    """A script of unknown data, or of known data against typed values: unknown and exit code 4, however good."""
    recipe = Runs(tmp_path)
    for seed in recipe.seeds:
        recipe.attempt(seed, stages={"roundtrip": stage(1.0 + seed / 1e6)})
    for ours, theirs in (
        (scripts[2], "1493"),
        (scripts[0], "7.9,7.8,7.7"),
        (scripts[2], "7.9,7.8,7.7"),
        (recipe.folder, "7.9,7.8,7.7"),
    ):
        done = compared(ours, theirs)
        assert done.exit_code == 4 and "unknown, which is never a pass" in done.stdout.replace("\n  ", " "), done.output
        assert "nothing shows" in done.stdout.replace("\n  ", " ")


def test_two_scripts_are_told_apart_by_their_environment(scripts):
    """What differs stands behind each, what is common does not."""
    said = compared(scripts[0], scripts[1]).stdout.replace("\n        ", " ")
    assert "train_gpt.py --env WIDTH=1" in said and "train_gpt.py --env WIDTH=2" in said and "ITERATIONS" not in said


def test_a_submission_without_a_score_is_not_finished(tmp_path):
    """Exit code 3, as --help says; 1 where a seed failed."""
    runs = Runs(tmp_path)
    done = compared(runs.folder, "1493")
    assert (done.exit_code, done.stdout) == (3, "") and "no counted score yet" in done.stderr
    runs.failed(runs.seeds[0])
    assert compared(runs.folder, "1493").exit_code == 1
