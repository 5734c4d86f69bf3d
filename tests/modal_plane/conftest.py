"""One plane for all tests here, with the toy app deployed, and one client of it."""

import pytest

from tests.modal_plane.client import Client, command
from tests.modal_plane.toy import APP, make


@pytest.fixture(scope="package")
def plane(modal_containers, tmp_path_factory):
    with make(tmp_path_factory.mktemp("modal") / "plane") as plane:
        plane.deployed = command(plane, "deploy", APP)
        yield plane
    assert plane.errors == []


@pytest.fixture(scope="package")
def client(plane):
    with Client(plane) as client:
        client.do("toy = modal.Function.from_name('toy', 'run'); from_id = modal.FunctionCall.from_id")
        yield client
