"""Fixtures of tests that need the loopback control plane of Modal. Its modules are loaded when the first asks for one.

A file of such tests says `pytestmark = pytest.mark.xdist_group("modal")`: containers are processes, and two files of
them at a time would be too many for a small machine.
"""

import pytest


@pytest.fixture(scope="session")
def modal_containers():
    """Skips where no container can be entered; for tests that make a `Plane` of their own."""
    from tests.modal_plane.capability import missing

    if reason := missing():
        pytest.skip(f"the loopback control plane of Modal cannot start containers here: {reason}")


@pytest.fixture
def modal_plane(modal_containers, tmp_path):
    """A plane of the test's own, whose containers see H100s; the test fails where the plane itself made a mistake."""
    from tests.modal_plane import Plane

    with Plane(tmp_path / "plane", gpus={"*": "NVIDIA H100 80GB HBM3"}) as plane:
        yield plane
    assert plane.errors == []


@pytest.fixture(scope="session")
def whole_account(modal_containers, corpus, tmp_path_factory):
    """One account for all tests of a process: a plane, and the data of the tests on its volume."""
    from tests.modal_plane import Plane
    from tests.orchestrator.modal_account import Account

    with Plane(tmp_path_factory.mktemp("account") / "plane", gpus={"*": "NVIDIA H100 80GB HBM3"}) as plane:
        yield Account(plane, corpus)
    assert plane.errors == [] and plane.unknown == []


@pytest.fixture
def account(whole_account):
    """That account, without faults, and nothing at work on it."""
    return whole_account.mended()
