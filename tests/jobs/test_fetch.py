"""A fetch from a hub: what it brings, what it leaves alone, what it says; the real client against a hub of our own."""

import json
import shutil
from pathlib import Path

import filelock
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.data.identity import data_identity
from golf_core.data.manifest import damage, read_manifest
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import DataError
from golf_core.prepare.hub import FetchRequest, fetch, list_published
from golf_core.prepare.hub_errors import HubError
from golf_core.prepare.hub_manifest import HUB_MANIFEST, HubDataset, choose_dataset, read_hub_manifest
from golf_core.prepare.hub_parallel import FetchProgress
from golf_core.prepare.status import data_status
from tests.jobs.loopback_hub import REPO, write_manifest, write_variant

NAME = "fineweb10B_sp1024"
SHARDS = "datasets/datasets/fineweb10B_sp1024"


def ask(into, shards=2, **others):
    """A request that does not wait long between tries."""
    return FetchRequest(into=into, train_shards=shards, waits=(0.0, 0.0), **others)


def visible(into):
    """Every file that is not in a hidden folder, with its bytes."""
    paths = (path for path in into.rglob("*") if path.is_file())
    return {name: path.read_bytes() for path in paths if "/." not in (name := f"/{path.relative_to(into)}")}


def hidden(into):
    return [path for path in into.rglob("*") if "/." in str(path.relative_to(into)) and path.is_file()]


def test_a_fetch_makes_a_whole_data_folder(hub, demo_hub, tmp_path):
    """The first shards, the whole validation split and the tokenizer are the hub's bytes; the manifest lists them."""
    folder = fetch(ask(tmp_path / "data"))
    manifest = read_manifest(folder)
    assert folder == tmp_path / "data" / "datasets" / NAME
    assert manifest.name == NAME and damage(folder, manifest) == []
    assert sorted(manifest.files) == [f"fineweb_{name}.bin" for name in ("train_000000", "train_000001", "val_000000")]
    for name in manifest.files:
        assert (folder / name).read_bytes() == (demo_hub / SHARDS / name).read_bytes()
    assert manifest.source["revision"] == hub.main and manifest.source["repo"] == REPO
    assert manifest.source["train_shards_published"] == 3 and manifest.source["endpoint"] == hub.url
    assert manifest.splits["val"].documents == 10 and manifest.splits["train"].documents is None
    assert [path.name for path in hidden(tmp_path / "data")] == ["lock"]
    assert not any("train_000002" in one.path for one in hub.requests)


def test_the_data_of_a_fetch_needs_no_tokenizer_named(hub, tmp_path):
    """What a submit asks about data is answered from the folder alone."""
    folder = fetch(ask(tmp_path / "data"))
    found = data_identity(folder, None, 1024)
    assert found["verified"] and found["val_tokens"] == read_manifest(folder).splits["val"].tokens


def test_the_same_fetch_again_brings_nothing(hub, tmp_path):
    """Files that are there and verified are not asked for."""
    fetch(ask(tmp_path / "data"))
    before, asked = visible(tmp_path / "data"), len(hub.requests)
    fetch(ask(tmp_path / "data"))
    assert visible(tmp_path / "data") == before
    assert not [one for one in hub.requests[asked:] if "/cdn/" in one.path]


def test_more_shards_extend_what_is_there(hub, tmp_path):
    """Only the new shards come; all train shards together tell their documents; no shard is ever there unlisted."""
    folder = fetch(ask(tmp_path / "data", 1))
    asked = len(hub.requests)
    assert fetch(ask(tmp_path / "data", 3)) == folder
    brought = {one.path.rpartition("/")[2] for one in hub.requests[asked:] if "/cdn/" in one.path}
    assert brought == {"fineweb_train_000001.bin", "fineweb_train_000002.bin"}
    manifest = read_manifest(folder)
    assert len(manifest.files) == 4 and manifest.splits["train"].documents == 20 and damage(folder, manifest) == []


@pytest.mark.parametrize("extended", [False, True])
def test_a_smaller_fetch_after_an_interrupted_one_lists_all_that_it_leaves(hub, tmp_path, extended):
    """What was staged for more shards is not moved in: the folder is whole, and nothing is left hidden."""
    if extended:
        fetch(ask(tmp_path / "data", 1))
    hub.fail("train_000001.bin", "404")
    with pytest.raises(DataError):
        fetch(ask(tmp_path / "data", 3, workers=3))
    staging = tmp_path / "data" / "datasets" / ".fetch" / NAME
    staging.mkdir(parents=True, exist_ok=True)
    shard = next(iter(hub.commits.values())).folder / SHARDS / "fineweb_train_000002.bin"
    shutil.copy(shard, staging)  # whether it came in time or not
    events = []
    folder = fetch(ask(tmp_path / "data", 1), events.append)
    assert len(list(folder.glob("*.bin"))) == len(read_manifest(folder).files) == 2
    assert [one.state for one in data_status(tmp_path / "data")] == ["whole"]
    assert any("train shards left 1 more here, dropped" in str(event) for event in events)
    shutil.copy(shard, folder)
    with pytest.raises(DataError, match=r"move it away; or list so many: .*--train-shards 3 .*--revision"):
        data_identity(folder, None, 1024)


def test_fewer_shards_than_there_are_is_refused(hub, tmp_path):
    """Nobody's gigabytes are removed unasked; what the message proposes works."""
    folder = fetch(ask(tmp_path / "data", 3))
    before = visible(tmp_path / "data")
    with pytest.raises(DataError, match=r"2 train shards more than the 1 asked for .*--train-shards 3.*remove"):
        fetch(ask(tmp_path / "data", 1))
    assert visible(tmp_path / "data") == before
    for number in (1, 2):
        (folder / f"fineweb_train_{number:06d}.bin").unlink()
    fetch(ask(tmp_path / "data", 1))
    assert damage(folder, read_manifest(folder)) == [] and len(read_manifest(folder).files) == 2


@pytest.mark.parametrize(
    "asked, told",
    [
        ({"shards": 0}, "--train-shards 0: at least 1"),
        ({"shards": -3}, "--train-shards -3: at least 1"),
        ({"shards": 4}, "has 3 of them in"),
        ({"workers": 0}, "--workers 0: 1 to 64"),
        ({"variant": "sp1042"}, "did you mean 'sp1024'. there are byte260, sp1024"),
        ({"variant": "../../etc"}, "is not in"),
        ({"repo": "nobody/nothing"}, "has no dataset repository nobody/nothing, or hides it"),
        ({"repo": "no name at all"}, "is no name of a repository"),
        ({"revision": "v9"}, "has no such revision .*v9"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused(hub, tmp_path, asked, told):
    """Value, place and alternatives; no shard is asked for, nothing is visible."""
    with pytest.raises(DataError, match=told):
        fetch(ask(tmp_path / "data", **asked))
    assert visible(tmp_path / "data") == {} if (tmp_path / "data").exists() else True
    assert not [one for one in hub.requests if "/cdn/" in one.path]


def test_documents_come_where_they_are_asked_for(hub, demo_hub, tmp_path):
    """They lie beside the data folders, are named in the manifest, and a later fetch without them keeps that."""
    fetch(ask(tmp_path / "data", with_docs=True))
    folder = fetch(ask(tmp_path / "data", 3))
    found = tmp_path / "data" / "docs_selected.jsonl"
    assert found.read_bytes() == (demo_hub / "datasets" / found.name).read_bytes()
    assert set(read_manifest(folder).source["documents"]) == {found.name, "docs_selected.source_manifest.json"}


def test_a_variant_without_a_sentencepiece_model_is_fetched(hub, tmp_path):
    """Own scripts may read it; its manifest says what its tokenizer is."""
    folder = fetch(ask(tmp_path / "data", variant="byte260"))
    manifest = read_manifest(folder)
    assert manifest.tokenizer.path.endswith(".json") and manifest.tokenizer.vocab == 260
    assert damage(folder, manifest) == []


def test_what_the_hub_has_is_told_from_its_manifest(hub, demo_hub):
    """Variants, shards and bytes; the bytes are those of the files."""
    offer = list_published(ask(Path("unused")))
    sizes = {
        one.name: sum(p.stat().st_size for p in (demo_hub / SHARDS).with_name(one.name).iterdir())
        for one in offer.datasets
    }
    assert {one.name: one.size for one in offer.datasets} == sizes
    assert [one.variant for one in offer.datasets] == ["byte260", "sp1024"] and offer.commit == hub.main


def test_progress_ends_with_everything(hub, tmp_path):
    """Bytes and files come to their totals, and never more than there are."""
    events = []
    fetch(ask(tmp_path / "data"), events.append)
    told = [event for event in events if isinstance(event, FetchProgress) and event.doing == "fetching"]
    assert told[-1].done == told[-1].total == told[-1].fetched and told[-1].files_done == told[-1].files == 5
    assert all(0 <= one.done <= one.total for one in told)


def test_a_second_fetch_into_a_folder_waits_its_turn(hub, tmp_path):
    """While one runs, another is refused at once."""
    home = tmp_path / "data" / "datasets" / ".fetch"
    home.mkdir(parents=True)
    with filelock.FileLock(home / "lock"), pytest.raises(HubError, match=r"another fetch into .* is running"):
        fetch(ask(tmp_path / "data"))


def test_the_password_of_an_endpoint_is_kept_out(hub, tmp_path, monkeypatch):
    """A URL with a user name and password does not reach the manifest."""
    from huggingface_hub import constants

    url = hub.url.replace("http://", "http://me:hunter2@")
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    events = []
    folder = fetch(ask(tmp_path / "data"), events.append)
    assert "hunter2" not in (folder / "manifest.json").read_text() + str(events)


def foreign_shard(folder, demo_hub):
    write_shard(folder / "mine_train_000000.bin", np.arange(9))


def other_shard(folder, demo_hub):
    write_shard(folder / "fineweb_train_000000.bin", np.arange(9))


def cut_shard(folder, demo_hub):
    data = (demo_hub / SHARDS / "fineweb_val_000000.bin").read_bytes()
    (folder / "fineweb_val_000000.bin").write_bytes(data[:-2])


def changed_shard(folder, demo_hub):
    data = (demo_hub / SHARDS / "fineweb_val_000000.bin").read_bytes()
    (folder / "fineweb_val_000000.bin").write_bytes(data[:-2] + b"\1\1")


def other_tokenizer(folder, demo_hub):
    place = folder.parents[1] / "tokenizers"
    place.mkdir()
    (place / "fineweb_1024_bpe.model").write_bytes(b"mine")


@pytest.mark.parametrize(
    "left, told",
    [
        (foreign_shard, "shards that the hub does not have there .mine_train_000000.bin"),
        (other_shard, r"fineweb_train_000000.bin is another file than the hub's .1,042 bytes"),
        (cut_shard, "fineweb_val_000000.bin has .* bytes, but its header counts .*: it is cut"),
        (changed_shard, "fineweb_val_000000.bin differs from the hub's"),
        (other_tokenizer, "fineweb_1024_bpe.model is another file than the hub's"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_content_that_is_not_the_hubs_is_left_alone(hub, demo_hub, tmp_path, left, told):
    """It is refused before anything is fetched, with a way out."""
    folder = tmp_path / "data" / "datasets" / NAME
    folder.mkdir(parents=True)
    left(folder, demo_hub)
    before = visible(tmp_path / "data")
    with pytest.raises(DataError, match=f"{told}.*Nothing was touched.*--into") as error:
        fetch(ask(tmp_path / "data"))
    assert "\n" not in str(error.value)
    assert visible(tmp_path / "data") == before and not [one for one in hub.requests if "/cdn/" in one.path]


def test_shards_of_another_tokenizer_are_noticed(hub, own_hub, tmp_path):
    """Their hash is the hub's, and a token in them no piece of its tokenizer: nothing is put in place."""
    write_variant(own_hub, NAME, np.array([1, 5, 1024, 5] * 90), np.arange(3, 1000), 3)
    write_manifest(own_hub)
    hub.publish(own_hub)
    with pytest.raises(HubError, match=r"_train_000000.bin of .* holds token 1,024, but its tokenizer has 1,024 piec"):
        fetch(ask(tmp_path / "data", 1))
    assert visible(tmp_path / "data") == {}


def test_a_link_to_nothing_is_no_place_for_data(hub, tmp_path):
    """Refused before anything is fetched."""
    (tmp_path / "data" / "datasets").mkdir(parents=True)
    (tmp_path / "data" / "datasets" / NAME).symlink_to(tmp_path / "gone")
    with pytest.raises(DataError, match=f"{NAME} is no folder, but a file or a link to nothing: .*--into"):
        fetch(ask(tmp_path / "data"))
    assert not [one for one in hub.requests if "_train_" in one.path]


def test_another_revision_is_not_mixed_in(hub, own_hub, tmp_path):
    """Where the hub's shards changed since, the old ones stay, and their revision still extends them."""
    old = hub.main
    folder = fetch(ask(tmp_path / "data", 1))
    place = own_hub / SHARDS
    write_variant(own_hub, NAME, np.arange(3, 900), np.arange(3, 1000), 3)
    write_manifest(own_hub)
    hub.publish(own_hub)
    before = visible(tmp_path / "data")
    with pytest.raises(
        DataError, match=f"its manifest says kind hub, .*revision {old}.*Nothing was touched: go on .*--revision {old}."
    ) as error:
        fetch(ask(tmp_path / "data", 2))
    assert "tokenizers do not mix" not in str(error.value)
    assert visible(tmp_path / "data") == before and place.is_dir()
    assert fetch(ask(tmp_path / "data", 2, revision=old)) == folder
    assert read_manifest(folder).source["revision"] == old


def test_a_new_revision_with_the_same_shards_goes_on(hub, own_hub, tmp_path):
    """Content decides, not the commit: one that only added a page extends what is there."""
    fetch(ask(tmp_path / "data", 1))
    (own_hub / "README.md").write_text("a card\n")
    new = hub.publish(own_hub)
    folder = fetch(ask(tmp_path / "data", 2))
    assert read_manifest(folder).source["revision"] == new and len(read_manifest(folder).files) == 3


def test_shards_that_another_program_fetched_are_taken(hub, demo_hub, tmp_path):
    """A folder without a manifest that holds the hub's bytes gets what is missing, and its manifest."""
    folder = tmp_path / "data" / "datasets" / NAME
    folder.mkdir(parents=True)
    shutil.copy(demo_hub / SHARDS / "fineweb_train_000000.bin", folder)
    fetch(ask(tmp_path / "data"))
    assert damage(folder, read_manifest(folder)) == [] and not hub.gets("train_000000")


@pytest.mark.parametrize("name", ["fineweb_train_000001.bin", "fineweb_val_000000.bin"])
def test_a_damaged_shard_is_fetched_again(hub, tmp_path, name):
    """The manifest says what it was, so it is brought back; the others are not asked for."""
    folder = fetch(ask(tmp_path / "data"))
    before, asked = visible(tmp_path / "data"), len(hub.requests)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1] + b"\7")
    fetch(ask(tmp_path / "data"))
    assert visible(tmp_path / "data") == before
    assert {one.path.rpartition("/")[2] for one in hub.requests[asked:] if "/cdn/" in one.path} == {name}


def test_a_changed_tokenizer_is_brought_back_and_kept_aside(hub, tmp_path):
    """Two data folders may share the place of a tokenizer: what lay there is not lost."""
    folder = fetch(ask(tmp_path / "data"))
    model = tmp_path / "data" / "tokenizers" / "fineweb_1024_bpe.model"
    right = model.read_bytes()
    model.write_bytes(b"mine")
    fetch(ask(tmp_path / "data"))
    assert model.read_bytes() == right and damage(folder, read_manifest(folder)) == []
    assert model.with_name(f"{model.name}.replaced").read_bytes() == b"mine"


def test_a_validation_split_that_is_not_whole_is_refused(hub, own_hub, tmp_path):
    """The hub's manifest and its shards must tell the same number of tokens; nothing is visible before."""
    found = json.loads((own_hub / HUB_MANIFEST).read_text())
    found["datasets"][1]["stats"]["tokens_val"] += 1
    (own_hub / HUB_MANIFEST).write_text(json.dumps(found))
    hub.publish(own_hub)
    with pytest.raises(HubError, match=r"the val shards of .* hold 120,907 tokens; the hub's manifest says 120,908"):
        fetch(ask(tmp_path / "data"))
    assert not (tmp_path / "data" / "datasets" / NAME).exists()


def test_a_tokenizer_of_another_vocabulary_is_refused(hub, own_hub, tmp_path):
    """A hub whose model has another number of pieces than it says would give a wrong score."""
    found = json.loads((own_hub / HUB_MANIFEST).read_text())
    found["tokenizers"][0]["vocab_size"] = 2048
    (own_hub / HUB_MANIFEST).write_text(json.dumps(found))
    hub.publish(own_hub)
    with pytest.raises(HubError, match="has 1024 pieces; its manifest says 2048"):
        fetch(ask(tmp_path / "data"))


def test_status_tells_whole_damaged_incomplete_and_unfinished(hub, tmp_path):
    """Each state of a data folder is told apart, offline."""
    into = tmp_path / "data"
    folder = fetch(ask(into))
    asked = len(hub.requests)
    assert [one.state for one in data_status(into)] == ["whole"]
    last = folder / "fineweb_train_000001.bin"
    held = last.read_bytes()
    last.unlink()
    assert [one.state for one in data_status(into)] == ["incomplete"]
    last.write_bytes(held[:-1] + b"\7")
    assert [one.state for one in data_status(into)] == ["damaged"]
    last.write_bytes(held)
    write_shard(folder / "mine_train_000000.bin", np.arange(9))
    assert "is not listed by the manifest" in data_status(into)[0].problems[0]
    (folder / "mine_train_000000.bin").unlink()
    (folder / "manifest.json").write_text("{")
    assert [one.state for one in data_status(into)] == ["damaged"]
    (folder / "manifest.json").unlink()
    assert [one.state for one in data_status(into)] == ["unverified"]
    assert len(hub.requests) == asked
    hub.fail("train_000001.bin", "404")
    with pytest.raises(DataError):
        fetch(ask(tmp_path / "other"))
    assert [one.state for one in data_status(tmp_path / "other")] == ["unfinished"]
    (tmp_path / "other" / "datasets" / ".mine_sp2048.export").mkdir()
    assert [one.folder.name for one in data_status(tmp_path / "other")] == [NAME, ".mine_sp2048.export"]
    with pytest.raises(DataError, match=r"is not there yet: a fetch has not come to its end"):
        data_identity(tmp_path / "other" / "datasets" / NAME, None, 1024)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("../../x") | st.just([])
)


@given(data=st.data())
def test_a_hostile_manifest_gives_a_clear_error_or_checked_values(demo_hub, data):
    """Whatever stands in one place of it: names stay names, numbers stay in their bounds, and no other error comes."""
    found = json.loads((demo_hub / HUB_MANIFEST).read_text())
    place, keys = found, []
    while isinstance(place, dict | list) and place and (not keys or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        keys.append((place, key))
        place = place[key]
    holder, key = keys[-1]
    holder[key] = data.draw(LEAVES)
    try:
        datasets = read_hub_manifest(json.dumps(found).encode(), "the manifest")
    except HubError as error:
        assert "\n" not in str(error)
        return
    for one in datasets:
        assert isinstance(one, HubDataset) and ".." not in f"{one.name}{one.folder}{one.tokenizer.path}"
        assert "/" not in one.name and 0 <= one.files_train <= 10**6 and 1 <= one.tokenizer.vocab <= 1 << 16


@pytest.mark.parametrize(
    "text", [b"", b"\xff", b"[]", b"{}", b'{"a": NaN}', b"[" * 100_000, b"<html>"], ids=lambda text: repr(text[:8])
)
def test_what_is_no_manifest_is_refused(text):
    """Any bytes at all."""
    with pytest.raises(HubError, match="the manifest is no manifest of the published export"):
        read_hub_manifest(text, "the manifest")


def test_a_variant_is_the_end_of_one_name(demo_hub):
    """A whole name is found, an end of two names is asked about."""
    datasets = read_hub_manifest((demo_hub / HUB_MANIFEST).read_bytes(), "the manifest")
    assert choose_dataset(datasets, NAME, "here") == choose_dataset(datasets, "sp1024", "here")
    with pytest.raises(DataError, match="is the end of 2 names"):
        choose_dataset([*datasets, *datasets], "sp1024", "here")
