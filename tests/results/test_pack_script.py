"""The submission folder of a script: its numbers from the log, its environment in the run command, nothing invented."""

import json
import subprocess
import sys

import pytest

from golf_core.rundir import read_json
from results.collect import collect
from results.draft import write_draft
from results.pack import pack, verify
from results.project import Project
from results.untrusted import Folder
from results.verify.sealed import check_sealed
from results.whole_folder import PackError
from tests.orchestrator.monoliths import monolith, script_submission, sealed_runs


@pytest.fixture(scope="module")
def corpus():
    """The embedded corpus, which the monolith opens."""
    said = subprocess.run([sys.executable, "-m", "golf_core.data.embedded"], capture_output=True, text=True, check=True)
    return json.loads(said.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def script(tmp_path_factory, corpus):
    """A monolith run for two seeds under each of two environments; the folder of the first."""
    runs_dir = tmp_path_factory.mktemp("script") / "runs"
    runs_dir.mkdir()
    folders = []
    for lr in ("0.02", "0.3 or so"):
        asked = script_submission(corpus, monolith("new"), env=[("ITERATIONS", "10"), ("NOTE", lr)], seeds=(1, 2))
        folders.append(sealed_runs(runs_dir, asked))
    return folders[0]


def test_a_script_is_packed_from_its_logs(script, tmp_path):
    """The script to the byte, its environment exported, its scores those of its log; and derived again."""
    found, out = collect(script), tmp_path / "submission"
    assert pack(found, Project(), out)
    text, facts = (out / "README.md").read_text(), read_json(out / "submission.json")
    assert "export ITERATIONS=10\nexport NOTE=0.02\n" in text and " train_gpt.py\n" in text and "--dtype" not in text
    assert "a script that was run as it was given" in text and "`NOTE=0.02`" in text
    assert (out / "train_gpt.py").read_bytes() == (script / "train_gpt.py").read_bytes()
    assert facts["val_bpb"] == sum(row.val_bpb for row in found.rows) / 2
    assert facts["compliance"]["score_first_ttt"] is None and facts["compliance"]["policy_met"] is False
    assert verify(found, Folder(out)) == []
    checked = check_sealed(Folder(out), found, None)
    assert {one.verdict for one in checked.findings} == {"pass"}, [x for x in checked.findings if x.verdict != "pass"]
    assert not checked.passed and {gate.name for gate in checked.gates if gate.verdict != "pass"} == {
        "training data",
        "score first",
        "byte accounting",
    }


def test_an_environment_is_quoted_for_the_shell(script, tmp_path):
    """Whatever stands in a value, the run command gives it back to the script as it was."""
    other = next(path for path in script.parent.glob("*/spec.json") if path.parent != script).parent
    pack(collect(other), Project(), tmp_path / "submission")
    assert "export NOTE='0.3 or so'\n" in (tmp_path / "submission" / "README.md").read_text()


def test_a_script_without_a_score_is_not_packed(tmp_path, corpus):
    """A log that tells none: no mean of what is not known; the draft says which seed has none."""
    folder = sealed_runs(tmp_path, script_submission(corpus, "print('seed:1')\n", seeds=(1,)))
    found = collect(folder)
    with pytest.raises(PackError, match="no final score is known for seed 1"):
        pack(found, Project(), folder / "submission")
    assert write_draft(found, Project(), folder / "draft")
    assert "seed 1: pending, no score known" in (folder / "draft" / "README.md").read_text()
