"""checked.json of a data folder: what it is believed, what it is not, and what a plan makes of it."""

import copy
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.data.manifest import DATA_MANIFEST
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import read_shard
from golf_core.rundir import content_id, file_sha256, read_json, write_json
from orchestrator.cloud import data as module
from orchestrator.cloud.data import CHECKED, Checked, CheckedError, data_in_container, fits, listing_of, make_checked
from orchestrator.cloud.volume_data import DataOnVolume, DataVolume, folder_of
from orchestrator.cluster import node_data
from orchestrator.cluster.node_data import EMBEDDED_PATH, DataUnfit
from orchestrator.data_check import EmbeddedThere
from orchestrator.errors import UsageError

NAME = "sotu"


@pytest.fixture(scope="module")
def made(corpus, tmp_path_factory):
    """A volume with one checked data folder. Not to be changed."""
    root = tmp_path_factory.mktemp("volume")
    folder = root / "datasets" / NAME
    shutil.copytree(corpus["data_path"], folder)
    make_checked(folder)
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy that may be changed; sizes and times are those of the first."""
    return Path(shutil.copytree(made, tmp_path / "data"))


@pytest.fixture
def runs(monkeypatch):
    """The modules that were run to look at data."""
    seen, real = [], node_data._run
    monkeypatch.setattr(node_data, "_run", lambda name, *rest: seen.append(name) or real(name, *rest))
    return seen


class Account:
    """Looks into a folder as the client looks into a volume."""

    def __init__(self, root):
        self.root = root

    def read(self, path, volume):
        return (self.root / path).read_bytes() if (self.root / path).is_file() else None

    def listing(self, path, volume):
        return {file.name: module._stat(file) for file in (self.root / path).glob("*") if file.is_file()}

    def folders(self, path, volume):
        return sorted(file.name for file in (self.root / path).glob("*") if file.is_dir())


def planned(root, name=NAME, tokenizer=None, vocab=1024):
    return DataOnVolume(DataVolume(Account(root)), name, tokenizer, vocab).result()


def run_of(root):
    """The data of a run as run.json says it, seen from here."""
    data = planned(root)
    here = {"path": str(root / "datasets" / NAME), "tokenizer_path": str(root / "datasets" / NAME / "tokenizer.model")}
    return data.to_dict() | here


def test_a_checked_folder_is_taken_without_reading_its_train_shards(root, tmp_path, runs):
    """From the plan to the container: the same hashes, and nobody reads all of it."""
    found = data_in_container(run_of(root), tmp_path / "cache")
    assert found["path"] == str(root / "datasets" / NAME) and Path(found["tokenizer_path"]).is_file()
    assert found["stamp"] == module.data_stamp(Path(found["path"]), Path(found["tokenizer_path"])) and runs == []


def test_a_plan_knows_the_data_by_what_was_checked(made, corpus):
    """Path as containers see it; name, source, counts and pieces as a check here tells them."""
    data = planned(made)
    assert data.path == "/data/datasets/sotu" and data.tokenizer_path == "/data/datasets/sotu/tokenizer.model"
    assert data.sha256 == read_json(made / "datasets" / NAME / CHECKED)["data_sha256"]
    assert (data.name, data.pieces, data.shards) == ("sotu_1901_2026", 1024, {"train": 1, "val": 1})
    assert data.stamp is None and planned(made, "/data/datasets/sotu/") == data
    assert EmbeddedThere(None, 1024).result().sha256 == data.sha256


def test_where_times_differ_all_is_read_and_the_same_content_is_taken(root, tmp_path, runs):
    """A shard that was written again with the same bytes."""
    run, shard = run_of(root), next((root / "datasets" / NAME).glob("*_train_*.bin"))
    os.utime(shard, (1, 1))
    with pytest.raises(UsageError, match=r"changed since.*_train_000000.bin was written again.*--check sotu"):
        planned(root)
    assert data_in_container(run, tmp_path / "cache")["path"] == run["path"] and runs == [module.IDENTITY]


def test_other_train_data_is_read_and_refused(root, tmp_path):
    """What it is and what the run needs are both told."""
    run, shard = run_of(root), next((root / "datasets" / NAME).glob("*_train_*.bin"))
    (root / "datasets" / NAME / DATA_MANIFEST).unlink()
    tokens = read_shard(shard)[:-1].copy()
    write_shard(shard, tokens)
    with pytest.raises(DataUnfit, match=f"is not that of the run.*needs {run['sha256'][:12]}"):
        data_in_container(run, tmp_path / "cache")


@pytest.mark.parametrize("pattern", ["*_val_*.bin", "tokenizer.model"])
def test_a_score_stands_on_what_was_read(root, tmp_path, pattern):
    """Validation shard or tokenizer changed behind checked.json's back, with size and time as before: refused."""
    run, path = run_of(root), next((root / "datasets" / NAME).glob(pattern))
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert planned(root).sha256 == run["sha256"]  # nothing to be seen from afar
    with pytest.raises(DataUnfit, match=r"the run's data has .* there"):
        data_in_container(run, tmp_path / "cache")


def test_a_checked_json_of_another_run_is_not_believed(root, tmp_path, runs):
    """Its own hashes add up; they are not those of the run, so that all is read and refused."""
    run = run_of(root)
    with pytest.raises(DataUnfit, match="not that of the run"):
        data_in_container(run | {"sha256": "0" * 64}, tmp_path / "cache")
    assert runs == [module.IDENTITY]


LIES = {
    "schema": lambda it: it.update(schema_version=2),
    "no hash": lambda it: it.pop("data_sha256"),
    "another hash": lambda it: it.update(data_sha256="0" * 64),
    "another shard's hash": lambda it: it["identity"]["hashes"].update(val=["1" * 64]),
    "an unlisted shard": lambda it: it["files"].update({"evil_train_000000.bin": [2048, 0]}),
    "no size": lambda it: it["files"].pop("sotu_val_000000.bin"),
    "negative": lambda it: it["files"].update({"sotu_val_000000.bin": [-1, 0]}),
    "a float": lambda it: it["files"].update({"sotu_val_000000.bin": [1.5, 0]}),
    "outside": lambda it: it.update(tokenizer_path="../../../etc/passwd"),
    "absolute": lambda it: it.update(tokenizer_path="/etc/passwd"),
    "through": lambda it: it.update(tokenizer_path="a/../../../x"),
    "files is a list": lambda it: it.update(files=["a"]),
    "identity is null": lambda it: it.update(identity=None),
    "name is a number": lambda it: it["identity"].update(name=1),
    "name moves the cursor": lambda it: it["identity"].update(name="\x1b[2J"),
    "pieces is a text": lambda it: it["identity"].update(pieces="1024"),
    "source is a list": lambda it: it["identity"].update(source=[1]),
    "tokens": lambda it: it["identity"].update(val_tokens=-3),
    "counts": lambda it: it["identity"]["shards"].update(val=2),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_hostile_checked_json_is_refused(made, lie):
    """In words that say what it is not."""
    told = read_json(made / "datasets" / NAME / CHECKED)
    lie(told)
    with pytest.raises(CheckedError, match="does not tell of a checked data folder"):
        Checked.from_dict(told)


def test_a_damaged_checked_json_costs_a_reading(root, tmp_path, runs):
    """A plan refuses it with the mend; a container reads all content instead."""
    path, run = root / "datasets" / NAME / CHECKED, run_of(root)
    told = read_json(path)
    LIES["another shard's hash"](told)
    write_json(path, told)
    with pytest.raises(UsageError, match="--check sotu"):
        planned(root)
    assert data_in_container(run, tmp_path / "cache")["path"] == run["path"] and runs == [module.IDENTITY]


def test_a_train_shard_that_is_also_a_val_shard_is_refused(made):
    """Though its hashes add up."""
    told = read_json(made / "datasets" / NAME / CHECKED)
    hashes = told["identity"]["hashes"]
    hashes["val"] = hashes["train"]
    told["data_sha256"] = content_id(hashes)
    told["identity"]["data_sha256"] = told["data_sha256"]
    with pytest.raises(CheckedError, match="also a val shard"):
        Checked.from_dict(told)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda it: st.lists(it) | st.dictionaries(st.text(), it)
    )
)
def test_any_json_is_refused_in_words(value):
    """Never with an error of another kind."""
    with pytest.raises(CheckedError):
        Checked.from_bytes(json.dumps(value).encode(), "there")


@given(st.data())
def test_what_differs_is_told(made, choose):
    """Equal listings fit; any size, time, missing file or added shard is named; other files are not."""
    checked = Checked.from_dict(read_json(made / "datasets" / NAME / CHECKED))
    listing = {**checked.files, "README": (3, 3)}
    assert fits(checked, listing) is None
    name = choose.draw(st.sampled_from(sorted(checked.files)))
    kind = choose.draw(st.sampled_from(["gone", "size", "time", "added"]))
    size, time = listing[name]
    other = choose.draw(st.integers(0, 2**40).filter(lambda it: it not in (size, time)))
    changes = {"size": (name, (other, time)), "time": (name, (size, other)), "added": ("a_train_1.bin", (1, 1))}
    listing |= dict([changes[kind]]) if kind in changes else {}
    if kind == "gone":
        del listing[name]
    words = {"gone": "gone", "size": "bytes, not", "time": "was written again", "added": "a_train_1.bin was added"}
    told = fits(checked, listing)
    assert words[kind] in told and (kind == "added" or told.startswith(name))


def test_to_dict_and_back(made):
    """What was written is what is read."""
    told = read_json(made / "datasets" / NAME / CHECKED)
    assert Checked.from_dict(copy.deepcopy(told)).to_dict() == told


def test_a_folder_is_checked_whole_or_not_at_all(root):
    """Damaged content, or none that says how it was published: no checked.json, not even the old one."""
    folder = root / "datasets" / NAME
    val = folder / "sotu_val_000000.bin"
    val.write_bytes(val.read_bytes()[:-2] + b"\x01\x00")
    with pytest.raises(DataUnfit, match="its manifest says"):
        make_checked(folder)
    assert not (folder / CHECKED).exists()
    (folder / DATA_MANIFEST).unlink()
    with pytest.raises(DataUnfit, match=r"has no manifest.json"):
        make_checked(folder)


def test_a_tokenizer_beside_the_data_sets_is_followed(root, tmp_path):
    """As the hub's export has it: datasets/NAME and tokenizers/FILE."""
    folder = root / "datasets" / NAME
    (root / "tokenizers").mkdir()
    (folder / "tokenizer.model").rename(root / "tokenizers" / "t.model")
    manifest = read_json(folder / DATA_MANIFEST)
    manifest["tokenizer"]["path"] = "../../tokenizers/t.model"
    write_json(folder / DATA_MANIFEST, manifest)
    checked = make_checked(folder)
    assert (
        checked.tokenizer_path == "../../tokenizers/t.model"
        and fits(checked, listing_of(folder, checked.files)) is None
    )
    data = planned(root)
    assert data.tokenizer_path == "/data/tokenizers/t.model" and planned(root, tokenizer="t.model") == data
    run = data.to_dict() | {"path": str(folder), "tokenizer_path": str(root / "tokenizers" / "t.model")}
    assert file_sha256(Path(data_in_container(run, tmp_path / "cache")["tokenizer_path"])) == data.tokenizer_sha256
    (root / "tokenizers" / "t.model").unlink()
    with pytest.raises(UsageError, match=r"t\.model is gone"):
        planned(root)


def test_what_a_plan_refuses(root, tmp_path):
    """No such data, never checked, another vocabulary or tokenizer, a folder of this machine: each with what to do."""
    with pytest.raises(UsageError, match=r"has no data other; there is sotu; .*--upload FOLDER"):
        planned(root, "other")
    with pytest.raises(UsageError, match="--tokenizer needs --data"):
        EmbeddedThere("mine.model", 1024)
    with pytest.raises(UsageError, match="it is empty"):
        planned(tmp_path / "nothing")
    with pytest.raises(UsageError, match="1024 pieces, more than the model's vocab of 512"):
        planned(root, vocab=512)
    with pytest.raises(UsageError, match=r"was made with /data/datasets/sotu/tokenizer\.model"):
        planned(root, tokenizer="/elsewhere/t.model")
    for wrong in ("./data/datasets/sotu", "a/b", "..", "/data/", ".hidden"):
        with pytest.raises(UsageError, match="written NAME or /data/datasets/NAME"):
            folder_of(wrong)
    (root / "datasets" / NAME / CHECKED).unlink()
    with pytest.raises(UsageError, match=r"never checked.*--check sotu"):
        planned(root)
    assert DataVolume(Account(root)).names() == [NAME]


def test_the_embedded_corpus_goes_the_way_it_goes_on_a_node(tmp_path, runs):
    """Encoded where it runs."""
    data = EmbeddedThere(None, 1024).result()
    assert data.path == data.tokenizer_path == EMBEDDED_PATH and data.stamp is None
    found = data_in_container(data.to_dict(), tmp_path / "cache")
    assert Path(found["path"]).is_dir() and runs == [node_data.EMBEDDED, node_data.IDENTITY]
