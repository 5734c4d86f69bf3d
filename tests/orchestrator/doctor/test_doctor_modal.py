"""The doctor's look at Modal, against the loopback control plane: what is wrong is a line with its mend, the token is
never shown, and no container starts."""

import json
import subprocess
import sys

import pytest

from tests.modal_plane import Plane
from tests.modal_plane.client import command
from tests.orchestrator.toy import ROOT

pytestmark = pytest.mark.xdist_group("modal")

SECRET = "planted"


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """One for all that is looked at; nothing here changes what it holds, but the test that deploys."""
    with Plane(tmp_path_factory.mktemp("plane") / "plane") as made:
        yield made
        assert made.containers() == [] and made.unknown == [] and made.errors == []


@pytest.fixture
def look(plane, tmp_path):
    """The command's exit code, and its findings by name."""

    def look(*flags, **variables):
        environ = plane.environment() | {"PYTHONPATH": str(ROOT)} | variables
        words = [sys.executable, "-m", "orchestrator", "doctor", "--on", "modal", "--json", *flags]
        done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert SECRET not in done.stdout + done.stderr and "as-loopback" not in done.stdout + done.stderr
        found = json.loads(done.stdout)["findings"]
        return done.returncode, {one["name"]: one for one in found}

    return look


def test_an_account_is_looked_at_without_a_container(plane, look):
    """Nothing wrong: client, image, token by its place, server, account; what is not deployed will be."""
    code, found = look("--runs-dir", "runs")
    assert code == 0 and {one["state"] for one in found.values()} == {"ok", "warning"}
    assert [name for name, one in found.items() if one["state"] == "warning"] == ["budget"]
    assert found["token"]["found"] == "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET (not shown)"
    assert found["server"]["found"] == f"{plane.environment()['MODAL_SERVER_URL']} answers"
    assert "as the lock says" in found["modal"]["found"] + found["image"]["found"]
    assert found["app"]["found"] == "parameter-golf is not deployed: submit deploys it first"
    assert "the embedded corpus" in found["data"]["found"]


def test_the_settings_of_golf_toml_are_looked_at(look, tmp_path):
    """Budget, packages, environment and data: what stands there is told with its place, and what is wrong refused."""
    (tmp_path / "golf.toml").write_text(
        'budget = 120\nmodal_packages = ["einops==0.8.2"]\nmodal_environment = "main"\ndata = "fineweb"\n'
    )
    code, found = look()
    assert code == 2 and [name for name, one in found.items() if one["state"] == "wrong"] == ["data"]
    assert found["budget"]["found"] == "120.00 USD of runs (golf.toml)"
    assert "einops==0.8.2 (golf.toml)" in found["image"]["found"] and "environment main" in found["account"]["found"]
    assert "has no data fineweb" in found["data"]["found"]
    (tmp_path / "golf.toml").write_text('modal_packages = ["einops"]\n')
    code, found = look()
    assert code == 2 and found["image"]["state"] == "wrong" and "is not pinned" in found["image"]["found"]


def test_what_is_deployed_is_held_to_this_code(plane, look):
    """Of this code; with other options it is another app, which is not there."""
    done = command(plane, "deploy", str(ROOT / "jobs/train.py"), folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert look()[1]["app"]["found"] == "parameter-golf is deployed, of this code"
    assert "is not deployed" in look(GOLF_MODAL_PACKAGES="einops==0.8.2")[1]["app"]["found"]


@pytest.mark.parametrize(
    "variables, name, said, expected",
    [
        ({"MODAL_TOKEN_SECRET": "as-planted"}, "account", "refuses the token of MODAL_TOKEN_ID", 2),
        ({"MODAL_TOKEN_SECRET": "", "MODAL_TOKEN_ID": "ak-planted"}, "token", "half a token", 2),
        ({"MODAL_TOKEN_SECRET": "", "MODAL_TOKEN_ID": ""}, "token", "no token for Modal is known here", 2),
        ({"MODAL_SERVER_URL": "http://127.0.0.1:1"}, "server", "Connection refused", 5),
        ({"MODAL_SERVER_URL": "127.0.0.1"}, "server", "MODAL_SERVER_URL='127.0.0.1' is no server's address", 2),
    ],
)
def test_what_is_wrong_ends_the_look(look, variables, name, said, expected):
    """Token, server, account: the first that is wrong is the last that is asked, with the exit code of a submit."""
    code, found = look(**variables)
    assert code == expected and found[name]["state"] == "wrong" and said in found[name]["found"]
    assert "app" not in found and "data" not in found


def test_a_token_that_others_can_read_is_tightened(look, plane):
    """A profile's file as `modal token set` leaves it; told once, and its owner's alone from then on."""
    environ = plane.environment()
    path = plane.folder / "home" / "modal.toml"
    path.write_text(f'[team]\ntoken_id = "{environ["MODAL_TOKEN_ID"]}"\ntoken_secret = "as-planted"\n')
    path.chmod(0o644)
    words = [sys.executable, "-m", "orchestrator", "doctor", "--on", "modal", "--json"]
    kept = {name: value for name, value in environ.items() if not name.startswith("MODAL_TOKEN")}
    env = kept | {"PYTHONPATH": str(ROOT), "MODAL_PROFILE": "team"}
    for state in ("warning", "ok"):
        done = subprocess.run(words, cwd=path.parent, env=env, capture_output=True, text=True, check=False)
        found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
        assert found["token"]["state"] == state and "profile 'team' in" in found["token"]["found"]
        assert SECRET not in done.stdout and path.stat().st_mode & 0o777 == 0o600
    path.unlink()
