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
