"""What runs on the head: the supervisor of a controller, the order that it reads, the parcel that brought it."""

import io
import subprocess
import sys
import zipfile

import pytest

from orchestrator.cluster import parcel
from orchestrator.cluster.options import ClusterOptions
from orchestrator.cluster.order import FILE, Order, Part
from orchestrator.cluster.parcel import ORDER, make_parcel
from orchestrator.cluster.wire import hear, whole
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.money.budget import Terms
from tests.orchestrator.toy import ROOT, TOY, limits, submission, toy_text


def control(*arguments, script=""):
    """`orchestrator.cluster.control`, with shorter waits; `script` is what the supervisor starts as its controller."""
    code = "import sys\nfrom orchestrator.cluster import control\ncontrol.FIRST_WAIT = 0.001\n" + (
        f"sys.exit(control.supervise([sys.executable, '-c', {script!r}]))" if script else
        f"sys.exit(control.main({arguments!r}))"
    )  # fmt: skip
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def frames(done):
    return [frame for line in done.stdout.splitlines() if (frame := hear(line))]


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os.abort()", "sys.exit(1)", "1 / 0"])
def test_a_controller_that_dies_is_started_again(tmp_path, death):
    """By a signal or a crash, up to five times; one that then gets to its end has the last word."""
    lives = tmp_path / "lives"
    script = (
        "import os, sys; from orchestrator.cluster.wire import say\n"
        f"lives = open({str(lives)!r}, 'a+'); lives.write('x'); lives.flush(); lives.seek(0)\n"
        f"if len(lives.read()) < 4: {death}\n"
        "say('end')"
    )
    done = control(script=script)
    assert done.returncode == 0 and lives.read_text() == "xxxx" and [one["type"] for one in frames(done)] == ["end"]
    assert "it starts again" in done.stdout


def test_a_controller_knows_the_supervisor_that_starts_it_again(tmp_path):
    """Every start of one supervisor has the same name of it, another supervisor another."""
    script = f"import sys; print(sys.argv[1], file=open({str(tmp_path / 'lives')!r}, 'a')); sys.exit(9)"
    control(script=script), control(script=script)
    lives = (tmp_path / "lives").read_text().split()
    assert len(lives) == 12 and len(set(lives)) == 2 == len(set(lives[::6]))


def test_a_controller_that_always_dies_is_given_up():
    """Six deaths, and an error that says so."""
    done = control(script="import sys; sys.exit(9)")
    assert done.returncode == 1 and "died 6 times" in frames(done)[-1]["message"]


def test_an_order_that_was_changed_is_refused(tmp_path):
    """In words, by a controller that ends well: a restart would not mend it."""
    order = Order(parts=(Part(submission=submission(), limits=limits()),), options=options())
    (tmp_path / ORDER).mkdir()
    for name, data in order.files().items():
        (tmp_path / ORDER / name).write_bytes(data.replace(b"STEPS, PAUSE = 5", b"STEPS, PAUSE = 6"))
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator.cluster.control", "drive", "job"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and frames(done)[-1]["type"] == "error" and "changed" in frames(done)[-1]["message"]


def test_an_answer_has_output_errors_and_code():
    """Of a command that prints bytes, complains and fails."""
    script = "import sys; sys.stdout.buffer.write(bytes(range(256))); print('oh', file=sys.stderr); sys.exit(3)"
    lines = control("answer", sys.executable, "-c", script).stdout.splitlines()
    assert whole(lines)[:2] == (bytes(range(256)), 3)
    assert [frame["text"] for line in lines if (frame := hear(line)) and frame["type"] == "text"] == ["oh"]


def options():
    return ClusterOptions(state_dir="~/golf-runs", node_dir="~/golf-node", storage=None, max_gpus=8)


def test_an_order_is_read_as_it_was_written(tmp_path):
    """Parts, rehearsals, money, deadlines and all."""
    terms = Terms(
        reservation="r", usd_per_hour=20.0, attempt_usd=1.0, attempts=3, seeds=2, expected_usd=2.0, worst_usd=6.0
    )
    part = Part(submission=submission(seeds=(1, 2)), limits=limits(), terms=terms, canary=True)
    first = Part(submission=submission(toy_text(steps=1)), limits=limits(dead_man_s=9.0))
    order = Order(parts=(part,), rehearsals=(first,), options=options(), grid="widths", retry_failed=True)
    for name, data in order.files().items():
        (tmp_path / name).write_bytes(data)
    read = Order.read(tmp_path)
    assert read == order and read.files() == order.files() and read.key == part.submission.submission_id[:12]


def test_a_grid_of_any_size_is_told_in_a_few_words():
    """What Ray keeps of a job says which grid and how many; all its submissions are in the order and on the head."""
    parts = tuple(Part(submission=submission(f"{TOY}\n# {n}\n"), limits=limits()) for n in range(1000))
    order = Order(parts=parts, options=options(), grid="widths")
    assert order.describe() == "grid widths: 1000 submissions"
    assert Order(parts=parts[:1], options=options()).describe() == f"submission {parts[0].submission.submission_id}"


def test_a_parcel_is_its_content():
    """The same bytes under the same name each time; another order, another name; nothing but code and the corpus."""
    plain, again = make_parcel(), make_parcel()
    order = Order(parts=(Part(submission=submission(), limits=limits()),), options=options())
    with_order = make_parcel(order)
    assert plain == again and with_order.name != plain.name and plain.uri.startswith("gcs://_ray_pkg_")
    names = zipfile.ZipFile(io.BytesIO(with_order.data)).namelist()
    assert (
        f"{ORDER}/{FILE}" in names and "orchestrator/cluster/control.py" in names and len(with_order.data) < 5_000_000
    )
    assert {name.partition("/")[0] for name in names} == {"golf_core", "orchestrator", "data", ORDER}
    assert not any(name.endswith((".pyc", ".bin", ".env", ".sqlite")) for name in names)


def test_a_parcel_that_is_too_large_is_refused(monkeypatch, tmp_path):
    """And so is code without the corpus beside it: an installed package cannot send itself."""
    monkeypatch.setattr(parcel, "MAX_BYTES", 1000)
    with pytest.raises(BackendFailure, match="1,000"):
        make_parcel()
    monkeypatch.setattr(parcel, "ROOT", tmp_path)
    with pytest.raises(UsageError, match="checkout"):
        make_parcel()
