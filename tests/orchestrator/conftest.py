"""Fixtures of the orchestrator's tests: the corpus, a ledger, and benches whose processes are looked for afterwards."""

import json
import subprocess
import sys

import pytest

from orchestrator.ledger.store import Ledger
from tests.orchestrator.toy import ROOT, TOY, Bench


@pytest.fixture(scope="session")
def corpus():
    """Real shards and a real tokenizer, from the cache of the embedded corpus."""
    command = [sys.executable, "-m", "golf_core.data.embedded"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(said.stdout.splitlines()[-1])


@pytest.fixture
def make_bench(tmp_path, corpus):
    """Makes benches; fails the test where a process of one is left ten seconds after it."""
    made = []

    def make(text=TOY, name="bench", kind=Bench, **kwargs):
        folder = tmp_path / name
        folder.mkdir()
        made.append(kind(folder, corpus, text, **kwargs))
        return made[-1]

    yield make
    for bench in made:
        bench.nobody_is_left()


@pytest.fixture
def runs_dir(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def ledger(runs_dir):
    with Ledger.create(runs_dir) as made:
        yield made
