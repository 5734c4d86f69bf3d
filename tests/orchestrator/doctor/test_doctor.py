"""The doctor: what is wrong is a line with its mend, secrets are never shown, and nobody is asked who need not be."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from golf_core.data.manifest import DATA_MANIFEST
from orchestrator.doctor import machine as doctor
from orchestrator.doctor.machine import OK, WARNING, WRONG, credentials, disk, gpus, hub_answers, packages, torch_build
from orchestrator.settings import Settings
from tests.orchestrator.fake_gpus import fake_nvml, install_nvml
from tests.orchestrator.toy import ROOT
from tests.test_architecture import HEAVY, loaded_by

SECRETS = {
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz",
    "MODAL_TOKEN_ID": "ak-0123456789abcdef",
    "MODAL_TOKEN_SECRET": "as-0123456789abcdef",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
}


def run(folder, *arguments, **environment):
    env = {name: value for name, value in os.environ.items() if not name.startswith("GOLF_")}
    command = [sys.executable, "-m", "orchestrator", "doctor", *map(str, arguments)]
    env |= {"PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


def settings(**flags):
    return Settings.resolve(flags, {}, Path("/nowhere"))


def test_a_good_machine_has_nothing_wrong(corpus, tmp_path):
    """Exit code 0, a line each with its state, a count on stderr; of credentials the names alone."""
    done = run(tmp_path, **SECRETS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 wrong" in done.stderr and "verified" in done.stdout and "Python" in done.stdout
    assert all(name in done.stdout for name in ("HF_TOKEN", "MODAL_TOKEN_ID", "RAY_AUTH_TOKEN"))
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS.values())


def test_damaged_data_is_wrong_with_the_mend(corpus, tmp_path):
    """Exit code 2, the same as JSON: which file, what brings it back. Without its manifest it is a warning."""
    data = Path(shutil.copytree(corpus["data_path"], tmp_path / "shards"))
    shard = data / "sotu_val_000000.bin"
    shard.write_bytes(shard.read_bytes()[:-2] + b"\1\0")
    done = run(tmp_path, "--json", GOLF_DATA=str(data))
    told = json.loads(done.stdout)
    assert done.returncode == told["exit_code"] == 2 and told["schema_version"] == 1 and told["count"]["wrong"] == 1
    (wrong,) = (finding for finding in told["findings"] if finding["state"] == WRONG)
    assert str(shard) in wrong["found"] and "golf_core.data.embedded` again" in wrong["found"] and wrong["mend"]
    (data / DATA_MANIFEST).unlink()
    found = list(doctor.findings(settings(data=str(data), tokenizer=str(data / "tokenizer.model")), hub=False))[-1]
    assert (found.name, found.state) == ("data", WARNING) and "without a manifest" in found.mend
    found = list(doctor.findings(settings(tokenizer="t.model"), hub=False))[-1]
    assert (found.state, found.exit_code) == (WRONG, 2) and "--tokenizer needs --data" in found.found


def test_packages_are_held_to_project_and_lock(tmp_path):
    """Absent and too old are wrong, another version than the lock's is a warning; each says found and expected."""
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["golf-absent>=1", "numpy>=99", "pytest>=1", "typer[all]>=0.1", "torch>=2"]\n'
    )
    locked = {name: doctor.metadata.version(name).partition("+")[0] for name in ("typer", "torch")}
    pins = {"pytest": "0.9", "numpy": "99.1", **locked}
    (tmp_path / "requirements.lock").write_text("# a comment\n" + "".join(f"{n}=={v}\n" for n, v in pins.items()))
    found = list(packages(tmp_path))
    assert [one.state for one in found] == [WRONG, WRONG, WARNING, OK]
    assert "golf-absent is not installed; 1 or newer" in found[0].found and found[0].exit_code == 5
    assert "99 or newer is asked, 99.1 locked" in found[1].found and "make setup" in found[1].mend
    assert "pytest" in found[2].found and found[3].found == "2 of 5 are as the lock says"


def test_gpus_are_told_and_what_hides_or_mixes_them(monkeypatch):
    """Each with memory and driver; hidden ones are warnings, a variable that names none and two models are wrong; a
    torch that cannot use them is a warning."""
    install_nvml(monkeypatch, fake_nvml(["NVIDIA H100 80GB HBM3"] * 2))
    both = list(gpus({}))
    assert [one.state for one in both] == [OK, OK] and "80 GiB, driver 570.86.15" in both[0].found
    one, other = gpus({"CUDA_VISIBLE_DEVICES": "0"})
    assert (one.state, other.state) == (OK, WARNING) and "CUDA_VISIBLE_DEVICES" in other.mend
    (none,) = gpus({"CUDA_VISIBLE_DEVICES": "7"})
    assert none.state == WRONG and "'7' is none of the 2 GPUs" in none.found
    assert torch_build().state == (OK if "CUDA" in torch_build().found else WARNING)
    install_nvml(monkeypatch, fake_nvml(["NVIDIA H100 80GB HBM3", "NVIDIA A10"]))
    *_, mixed = gpus({})
    assert mixed.state == WRONG and "several models" in mixed.found


def test_a_runs_folder_that_cannot_be_used_is_wrong(tmp_path, monkeypatch):
    """A file in its place, or no space left for an attempt; a folder that is not there yet is judged by its parent."""
    (tmp_path / "file").write_text("")
    for asked, state in (("file", WRONG), ("not/yet", OK)):
        found, data = disk(settings(runs_dir=str(tmp_path / asked)))
        assert (found.state, data.name) == (state, "data folder")
    monkeypatch.setattr(doctor, "ATTEMPT_BYTES", 2**62)
    found, _ = disk(settings(runs_dir=str(tmp_path)))
    assert found.state == WRONG and "GB free" in found.found and "make space" in found.mend


def test_credentials_in_files_are_named_by_their_file(tmp_path):
    """A token file counts, wherever a variable puts it; its content is not read."""
    (tmp_path / "token").write_text(SECRETS["HF_TOKEN"])
    (tmp_path / ".modal.toml").write_text(SECRETS["MODAL_TOKEN_SECRET"])
    found = list(credentials({"HOME": str(tmp_path), "HF_TOKEN_PATH": str(tmp_path / "token")}))
    assert str(tmp_path / "token") in found[0].found and ".modal.toml" in found[1].found and "none" in found[2].found
    assert not any(secret in one.line() for secret in SECRETS.values() for one in found)


@pytest.fixture
def hub(monkeypatch):
    """A server on loopback that answers with `status`, and counts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            server.asked += 1
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.status = 0, 200
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("no_proxy", "*")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_hub_is_asked_only_where_it_is_wanted(hub, monkeypatch):
    """Not a connection without --hub; with it one, and a hub that is down or not there is wrong."""
    monkeypatch.setattr(doctor, "DataCheck", lambda *arguments: (_ for _ in ()).throw(doctor.UsageError("not here")))
    list(doctor.findings(settings(), hub=False))
    assert hub.asked == 0
    assert [one.name for one in doctor.findings(settings(), hub=True)].count("hub") == 1 and hub.asked == 1
    for hub.status, state in ((404, OK), (503, WRONG)):
        assert hub_answers().state == state
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert hub_answers().state == WRONG and "HF_ENDPOINT" in hub_answers().mend


@pytest.mark.parametrize("start", ["http://me:hunter2@", "me:hunter2@", "http://me:hunter2@[::1"])
def test_the_password_of_a_hub_is_never_shown(hub, monkeypatch, start):
    """A URL may hold one; whether it is a URL or none, and whether the hub answers or not, the line leaves it out."""
    for place in (f"127.0.0.1:{hub.server_port}", "127.0.0.1:9", "127.0.0.1:99999", "127.0.0.1:9/a b"):
        monkeypatch.setenv("HF_ENDPOINT", start + place)
        assert "hunter2" not in (line := hub_answers().line()) and "127.0.0.1" in line


def test_the_doctor_loads_nothing_heavy():
    """It reads torch's version, not torch."""
    assert loaded_by("from orchestrator.doctor.machine import torch_build; torch_build()") & HEAVY == set()
