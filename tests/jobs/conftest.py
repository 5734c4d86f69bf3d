"""A hub of our own for every test, filled once; no test of this folder reaches a network."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.jobs.loopback_hub import LoopbackHub, write_demo_hub


@pytest.fixture(scope="session")
def demo_hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a repository with the embedded corpus; not to be changed."""
    return write_demo_hub(tmp_path_factory.mktemp("demo_hub"))


@pytest.fixture
def hub(demo_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A running hub that the client of this process talks to, without anybody's token or cache."""
    with LoopbackHub(demo_hub) as running:
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


@pytest.fixture
def own_hub(hub: LoopbackHub, demo_hub: Path, tmp_path: Path) -> Path:
    """A copy of the repository's files that a test may change, and publish."""
    return Path(shutil.copytree(demo_hub, tmp_path / "own_hub"))
