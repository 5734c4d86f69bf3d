"""What the volume of runs and the claims tell of a submission, and what this machine makes of it."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from golf_core.rundir import RUN
from orchestrator import commands
from orchestrator.attempts import ATTEMPTS, NODE, create
from orchestrator.backends.base import Job
from orchestrator.cloud import there
from orchestrator.cloud.cancels import is_cancelled, with_cancel
from orchestrator.cloud.commands import _write_cancel
from orchestrator.cloud.options import timeout_of
from orchestrator.cloud.order import Order, cancels_of
from orchestrator.cloud.site import ModalSite
from orchestrator.cloud.there import Sent, lay_down, mark_sent, publish_grid, sent_of, tell_newer, with_environment
from orchestrator.drive import register
from orchestrator.errors import UsageError
from orchestrator.ledger.store import Ledger
from orchestrator.limits import limits_of
from orchestrator.proc import folder_lock
from orchestrator.registered import write_grid
from orchestrator.settings import Settings
from orchestrator.spec import attempt_id
from tests.orchestrator.cloud.memory import MemoryCloud
from tests.orchestrator.toy import limits, submission


@pytest.fixture
def ledger(tmp_path):
    with Ledger.create(tmp_path) as made:
        yield made


def settings_of(tmp_path, **flags):
    return Settings.resolve({"runs_dir": str(tmp_path), **flags}, {}, Path("/nowhere"))


def test_commands_ask_the_environment_that_a_submission_was_sent_to(ledger, tmp_path):
    """A cancel without the flag that the submit had must not look for claims where there are none."""
    sid = submission().submission_id
    mark_sent(ledger, sid, "prod")
    sent = Sent(sid, (sid,), here=True)
    assert with_environment(settings_of(tmp_path), sent)["modal_environment"] == "prod"
    asked = with_environment(settings_of(tmp_path, modal_environment="dev"), sent)
    assert asked["modal_environment"] == "dev"
    with pytest.raises(UsageError, match="--modal-environment prod"):
        mark_sent(ledger, sid, "dev")
    with pytest.raises(UsageError, match="environment prod on Modal, and this asks the account's default"):
        mark_sent(ledger, sid, None)


def test_a_call_may_take_what_its_own_submission_was_priced_for(tmp_path):
    """A rehearsal is given its 900 seconds and what is beside them, however long the attempts are that it is for: its
    reservation bears no more."""
    asked = replace(submission(), target=replace(submission().target, gpus=8, gpu="NVIDIA H100 80GB HBM3"))
    first = replace(asked, rehearsal={"of": asked.submission_id}, target=replace(asked.target, gpus=1))
    plan = SimpleNamespace(
        submission=asked, rehearsal=SimpleNamespace(submission=first), cost=SimpleNamespace(free=True)
    )
    site = ModalSite.__new__(ModalSite)
    site.runs_dir, site.cloud, site.packages, site.secret = tmp_path, MemoryCloud(), (), None
    settings = settings_of(tmp_path)
    backend = site.backend([plan], settings, True, print)
    found = {}
    for one in (asked, first):
        name = attempt_id(one.runs[0].run_id, 1)
        options = backend.options_of(Job(name, tmp_path, gpus=one.target.gpus, gpu=one.target.gpu))
        found[options.gpu] = options.timeout_s
        assert options.timeout_s == timeout_of(limits_of(one, settings).attempt_s)
    assert found["H100!:1"] == 1200 < found["H100!:8"]


def test_of_two_cancels_at_once_neither_is_lost():
    """What one of them read before the other wrote is written over; who wrote looks again."""
    cloud, sid = MemoryCloud(), "s" * 64
    values = [None, with_cancel("", "another machine's", [2])]  # it had read what was there before us, and writes now

    def write(key, value):
        cloud.claims[key] = value if len(values) == 1 else values.pop()

    cloud.write = write
    _write_cancel(cloud, sid, [1])
    assert all(is_cancelled(seed, "", cloud.claims[cancels_of(sid)]) for seed in (1, 2))


def test_a_setting_asks_modal_for_what_this_folder_does_not_know(ledger, tmp_path):
    """`on = "modal"` in golf.toml, or GOLF_ON, is as --on modal there; what ran on this machine stays here, unless the
    flag says otherwise."""
    here = submission()
    register(here, tmp_path, ledger)
    short = here.submission_id[:8]
    by_setting = Settings.resolve({"runs_dir": str(tmp_path)}, {"GOLF_ON": "modal"}, Path("/nowhere"))
    assert sent_of(by_setting, "ffff") == Sent("ffff") and sent_of(by_setting, short) is None
    assert sent_of(settings_of(tmp_path), "ffff") is None
    assert sent_of(settings_of(tmp_path, on="modal"), short) == Sent(short)
    nowhere = by_setting.replaced("runs_dir", str(tmp_path / "none"), "a test")
    assert sent_of(nowhere, None) == Sent(None)


def test_a_newer_grid_of_the_same_name_is_told(ledger, tmp_path, monkeypatch, capsys):
    """Where --on modal is said and another machine sent one since; not of the same grid."""
    cloud, asked = MemoryCloud(), submission()
    register(asked, tmp_path, ledger)
    mark_sent(ledger, asked.submission_id, None)
    write_grid(ledger, "widths", [asked.submission_id])
    monkeypatch.setattr("orchestrator.cloud.site.open_cloud", lambda settings: cloud)
    settings = settings_of(tmp_path, on="modal")
    sent = sent_of(settings, "widths")
    assert sent.here and sent.name == "widths"
    publish_grid("widths", [asked.submission_id], cloud)
    tell_newer(settings, sent)
    assert capsys.readouterr().err == ""
    publish_grid("widths", ["f" * 64], cloud)
    tell_newer(settings_of(tmp_path), sent)
    assert capsys.readouterr().err == ""
    tell_newer(settings, sent)
    assert "Modal has a newer one of that name, of ffffffffffff:" in capsys.readouterr().err
    cloud.fails["read"] = 1
    tell_newer(settings, sent)


def test_what_goes_on_without_us_is_not_called_abandoned(ledger, tmp_path, capsys):
    """A submission that was left, while a call works at an attempt of it."""
    asked = submission()
    register(asked, tmp_path, ledger)
    mark_sent(ledger, asked.submission_id, None)
    folder = create(tmp_path, asked.run_json(asked.runs[0], 1, limits()), asked.bundle)
    with folder_lock(folder, 1.0):
        commands.status(tmp_path, None, False, False, False)
    assert "(it goes on on Modal)" in capsys.readouterr().out
    commands.status(tmp_path, None, False, False, False)
    assert "(not driven by any process)" in capsys.readouterr().out


def on_volume(cloud, asked):
    run = asked.run_json(asked.runs[0], 1, limits())
    call = cloud.call(Order(app="golf", code="c0de", run=run, bundle="", stage="train"))
    return cloud.begin(call)


@pytest.mark.parametrize("file", [NODE, RUN])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"call": 1}', b"[" * 100_000, b'{"call": "fc", "execution": "x"}']
)
def test_what_lies_on_the_volume_fails_no_command(ledger, file, content):
    """Files that are none of ours: the attempt is taken as not begun, or by what is readable."""
    cloud, asked = MemoryCloud(), submission()
    place = on_volume(cloud, asked)
    cloud.files[f"{place}/{file}"] = content
    lay_down([asked], cloud, ledger)
    assert not list((ledger.path.parent / ATTEMPTS).glob(".*"))


def test_two_commands_lay_the_same_attempt_down(ledger, monkeypatch):
    """One of them has the folder; the other goes on."""
    cloud, asked = MemoryCloud(), submission()
    on_volume(cloud, asked)
    other, write_json = [], there.write_json

    def first_the_other(path, told):
        monkeypatch.setattr(there, "write_json", write_json)
        monkeypatch.setattr(there.os, "getpid", lambda: 1)
        other.extend(lay_down([asked], cloud, ledger))
        write_json(path, told)

    monkeypatch.setattr(there, "write_json", first_the_other)
    assert lay_down([asked], cloud, ledger) == [] and len(other) == 1
    assert [path.name for path in (ledger.path.parent / ATTEMPTS).iterdir()] == other
