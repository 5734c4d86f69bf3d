"""Folders that we write: nothing of anybody else is touched, and one of another version is known for it."""

import json
import os
import time
from hashlib import sha256

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_core.rundir import ARTIFACT, LOG, RunDirError, file_sha256
from results.collect import collect
from results.content import Remembered, _times
from results.pack import FORMAT, README, SUBMISSION, other_version, pack, submission_files, verify
from results.project import Project
from results.tried import tried_beside
from results.untrusted import Folder
from results.verify.sealed import check_sealed
from results.whole_folder import MARKER, STALE_SECONDS, PackError, write_whole
from tests.results.attempts import CODE, Runs, stage

OLD = time.time() - 10 * STALE_SECONDS
ID = "0123456789abcdef" * 4
names = st.sampled_from(["mine", "*", "?", "[a]", "a-b", "golf"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names, beside=st.sampled_from(["important", "old-1", "x"]), marked=st.booleans())
def test_packing_takes_away_nothing_of_others(tmp_path_factory, name, beside, marked):
    """Old folders beside `--out` stay, whatever they are called; what a killed pack left, with our marker, goes."""
    parent = tmp_path_factory.mktemp("o")
    others = [parent / f".{name}-{beside}", parent / ".golf-pack-theirs", parent / f".golf-pack-{ID[:12]}-kept"]
    for other in others:
        other.mkdir()
        (other / "work").write_text("of years")
        os.utime(other, (OLD, OLD))
    left = parent / f".golf-pack-{ID[:12]}-left"
    left.mkdir()
    (left / MARKER).write_text("ours") if marked else None
    os.utime(left, (OLD, OLD))
    assert write_whole(parent / name, {"a.json": b"{}"}, "a.json", ID)
    assert all((other / "work").read_text() == "of years" for other in others)
    assert left.exists() != marked
    kept = {one.name for one in [*others, parent / name]} | ({left.name} if not marked else set())
    assert {path.name for path in parent.iterdir()} == kept


def test_a_missing_parent_is_said_with_what_to_do(tmp_path):
    """The folder that is not there and --out; no name of a scratch folder, no number of an error."""
    with pytest.raises(PackError) as caught:
        write_whole(tmp_path / "no" / "x", {"a": b""}, "a", ID)
    told = str(caught.value)
    assert f"there is no folder {tmp_path / 'no'}" in told and "--out" in told
    assert "Errno" not in told and "golf-pack" not in told


def packed(tmp_path):
    runs = Runs(tmp_path / "runs").all_attempts()
    found = collect(runs.folder)
    pack(found, Project(), tmp_path / "out")
    return found, tmp_path / "out"


@pytest.mark.parametrize("wrong", [5, True, "all", {"a": 1}])
def test_tried_of_another_type_is_refused_in_words(tmp_path, wrong):
    """submission.json comes from anywhere: one line with the place and what it must be, no trace."""
    found, out = packed(tmp_path)
    facts = json.loads((out / SUBMISSION).read_text())
    (out / SUBMISSION).write_text(json.dumps(facts | {"tried": wrong}))
    with pytest.raises(RunDirError, match=r"tried is .*not a list"):
        verify(found, Folder(out))


def edited(out, **changed):
    facts = {**json.loads((out / SUBMISSION).read_text()), **changed}
    text = json.dumps({key: value for key, value in facts.items() if value is not None})
    (out / SUBMISSION).write_text(text)


@pytest.mark.parametrize("version", [None, 1, FORMAT + 1, "next"])
def test_another_version_is_judged_by_its_numbers(tmp_path, version):
    """Other words and keys are no fault of it, and a note says why they are not compared."""
    found, out = packed(tmp_path)
    (out / README).write_text((out / README).read_text().replace("## Key changes", "## What is new"))
    assert verify(found, Folder(out)) and not other_version(Folder(out))
    edited(out, format_version=version, headroom=None, other_key="of another version")
    assert verify(found, Folder(out)) == []
    checked = check_sealed(Folder(out), found, None)
    assert checked.passed and "another version" in " ".join(checked.notes)


@pytest.mark.parametrize("lie", ["log", "code", "score", "identity", "extra", "no README"])
def test_another_version_may_not_lie(tmp_path, lie):
    """Its logs, its code and where it comes from are compared to the byte, its numbers with the sealed ones."""
    found, out = packed(tmp_path)
    edited(out, format_version=1, **{"score": {"val_bpb": 1.0}, "identity": {"data_sha256": "0" * 64}}.get(lie, {}))
    if lie in ("log", "code"):
        path = out / ("train_seed42.log" if lie == "log" else "train_gpt.py")
        path.write_bytes(path.read_bytes() + b"\n")
    elif lie == "extra":
        (out / "more.txt").write_text("")
    elif lie == "no README":
        (out / README).unlink()
    checked = check_sealed(Folder(out), found, None)
    assert not checked.passed and "fail" in {one.verdict for one in checked.findings}


def test_what_was_tried_is_hashed_afresh(tmp_path):
    """A remembered hash of a file that has changed since is not believed where a submission is packed or verified."""
    ours = Runs(tmp_path, seeds=(1, 2))
    code = CODE + "# other\n"
    worse = Runs(tmp_path, seeds=(1, 2), code=code, overrides=("a=1",))
    base = {"recipe": "demo", "config": {"name": "demo"}, "source": "here"}
    for runs, bpb in ((ours, 1.5), (worse, 1.6)):
        spec = json.loads((runs.folder / "spec.json").read_text())
        (runs.folder / "spec.json").write_text(json.dumps(spec | {"base": base}))
        for seed in runs.seeds:
            runs.attempt(seed, stages={"sliding": stage(bpb + seed / 1000)})
    assert len(tried_beside(collect(ours.folder))) == 1
    artifact = worse.attempt_folder(1) / ARTIFACT
    digest = file_sha256(artifact)
    artifact.write_bytes(artifact.read_bytes()[::-1])
    memory = Remembered(tmp_path)
    memory._began += 10**12
    for path in (file for file in worse.attempt_folder(1).iterdir() if file.name != LOG):
        kept = digest if path == artifact else file_sha256(path)
        memory._seen[str(path.relative_to(tmp_path))] = (_times(path.stat()), kept)
    memory.save(all_seen=False)
    assert collect(worse.folder, Remembered(tmp_path)).finished  # so far does remembering go
    (only,) = tried_beside(collect(ours.folder))
    assert only.n == 1


def test_a_change_of_what_is_packed_raises_the_format(tmp_path):
    """One submission with fixed evidence gives the same files as ever under this format, to the byte."""
    runs = Runs(tmp_path / "runs", seeds=(1, 2, 3)).all_attempts()
    files = submission_files(collect(runs.folder), Project(author="A", github_id="a"))
    text = b"".join(files[name] for name in (README, SUBMISSION))
    told = "the packed files changed: raise FORMAT in results/pack.py, and put it here with the new hash"
    assert (FORMAT, sha256(text).hexdigest()[:16]) == (5, "b8e89e65120e9210"), told
