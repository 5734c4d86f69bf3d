"""A run's data on a node: read once, remembered by its stamp, refused where it is other data."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cluster import node_data
from orchestrator.cluster.node_data import EMBEDDED_PATH, DataUnfit, data_on_node
from tests.orchestrator.cluster_runs import real_data


@pytest.fixture(scope="module")
def data(corpus):
    return real_data(corpus)


@pytest.fixture
def runs(monkeypatch):
    """The modules that were run to look at data."""
    seen, real = [], node_data._run
    monkeypatch.setattr(node_data, "_run", lambda module, *rest: seen.append(module) or real(module, *rest))
    return seen


def test_data_is_read_once_and_then_known_by_its_stamp(data, tmp_path, runs):
    """Until a file's times differ: then it is read again, and is still the same data."""
    folder = tmp_path / "data"
    shutil.copytree(data.path, folder)
    there = replace(data, path=str(folder), tokenizer_path=str(folder / Path(data.tokenizer_path).name)).to_dict()
    first = data_on_node(there, tmp_path / "cache")
    assert data_on_node(there, tmp_path / "cache") == first and len(runs) == 1
    os.utime(next(folder.glob("*_train_*.bin")))
    again = data_on_node(there, tmp_path / "cache")
    assert len(runs) == 2 and again["stamp"] != first["stamp"] and again["path"] == first["path"] == str(folder)


def test_other_data_and_no_data_are_refused(data, tmp_path):
    """Told with both hashes, or with the place that is missing."""
    with pytest.raises(DataUnfit, match=f"{data.sha256[:12]}.*the run needs {'0' * 12}"):
        data_on_node(replace(data, sha256="0" * 64).to_dict(), tmp_path / "cache")
    nowhere = replace(data, path=str(tmp_path / "nowhere"), tokenizer_path=str(tmp_path / "nowhere" / "t.model"))
    with pytest.raises(DataUnfit, match="not on this node"):
        data_on_node(nowhere.to_dict(), tmp_path / "cache")


def test_the_embedded_corpus_is_encoded_once_for_all_that_begin_together(data, tmp_path, monkeypatch):
    """Three attempts that begin at once on a new node: one encodes and checks, the others wait and find it."""
    there, seen, real = {"data_path": data.path, "tokenizer_path": data.tokenizer_path}, [], node_data._run

    def run(module, arguments, what):
        seen.append(module)
        return there if module == node_data.EMBEDDED else real(module, arguments, what)

    monkeypatch.setattr(node_data, "_run", run)
    asked = replace(data, path=EMBEDDED_PATH, tokenizer_path=EMBEDDED_PATH).to_dict()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: data_on_node(asked, tmp_path / "cache"), range(3)))
    assert found[0] == found[1] == found[2] and found[0]["path"] == data.path
    assert seen == [node_data.EMBEDDED, node_data.IDENTITY]
