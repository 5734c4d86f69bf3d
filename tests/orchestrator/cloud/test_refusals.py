"""What a submit to Modal refuses, through the real command line: before anything starts, within seconds, with value,
place and mend; 2 for what was asked for, 5 for a server."""

import re
import subprocess
import sys
import time

import pytest

from orchestrator.cloud.entry import OURS, quietly, submit
from tests.modal_plane import Plane
from tests.orchestrator.toy import ROOT

pytestmark = pytest.mark.xdist_group("modal")

NO_TOKEN = {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}
REFUSED = {
    "no token": ([], NO_TOKEN, 2, "half a token|no token for Modal is known here.*modal token new"),
    "half a token": ([], {"MODAL_TOKEN_ID": ""}, 2, "half a token: MODAL_TOKEN_SECRET is there, and MODAL_TOKEN_ID is"),
    "wrong token": ([], {"MODAL_TOKEN_SECRET": "as-planted"}, 2, "refuses the token of MODAL_TOKEN_ID and MODAL_"),
    "no server": ([], {"MODAL_SERVER_URL": "http://127.0.0.1:1"}, 5, "cannot be reached .*Connection refused"),
    "no such host": ([], {"MODAL_SERVER_URL": "https://modal.invalid"}, 5, "its name is not known here"),
    "no address": ([], {"MODAL_SERVER_URL": "modal"}, 2, "MODAL_SERVER_URL='modal' is no server's address"),
    "too many GPUs": (["--gpus", "H100:16"], {}, 2, "--gpus=H100:16: Modal gives 1 to 8 H100 to a container, not 16"),
    "no such GPU": (["--gpus", "H10:8"], {}, 2, "--gpus=H10:8: Modal has no GPU 'H10'; did you mean"),
    "any GPU": (["--gpus", "any:1"], {}, 2, "any is no model"),
    "over a day": (["--dead-man-seconds", "90000"], {}, 2, "86,400 s at most, not 90,300: .*--dead-man-seconds"),
    "unpinned": (["--modal-packages", "einops"], {}, 2, "--modal-packages: 'einops' is not pinned"),
    "unlike the lock": (["--modal-packages", "numpy==1.0"], {}, 2, "which has numpy==2.4.6"),
    "no such data": (["--data", "fineweb"], {}, 2, "has no data fineweb"),
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """One for all, which in the end was asked for no call and no container."""
    with Plane(tmp_path_factory.mktemp("plane") / "plane") as made:
        yield made
        assert (made.calls(), made.containers(), made.unknown, made.errors) == ([], [], [], [])
        assert made.requests("AppPublish") == made.requests("ImageGetOrCreate") == 0


@pytest.mark.parametrize("flags, variables, code, said", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_before_anything_starts(plane, tmp_path, flags, variables, code, said):
    """One or two lines on stderr, nothing on stdout, no folder of runs; the client's own wait of a minute does not
    begin."""
    environ = plane.environment() | {"PYTHONPATH": str(ROOT)} | variables
    words = [sys.executable, "-m", "orchestrator", "submit", "--on", "modal", "--budget", "500", "--yes", *flags]
    began = time.monotonic()
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert time.monotonic() - began < 40
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert re.search(said, done.stderr) and "Traceback" not in done.stderr and "planted" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["run", "deploy"])
@pytest.mark.parametrize("reason", ["no token", "no server"])
def test_modals_own_command_line_refuses_the_same(plane, tmp_path, verb, reason):
    """`modal run` and `modal deploy` read jobs/train.py before they ask their server, and say what a submit says."""
    _, variables, code, said = REFUSED[reason]
    environ = plane.environment() | variables
    words = [sys.executable, "-m", "modal", verb, str(ROOT / "jobs/train.py")]
    began = time.monotonic()
    done = subprocess.run(words, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert time.monotonic() - began < 40
    assert done.returncode == code and re.search(said, done.stderr) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "flags, said",
    [(["--on", "process"], "--on process: `modal run` is on Modal"), (["--nothing"], f"'{OURS} --help'")],
)
def test_modal_run_takes_flags_of_a_submit_on_modal(flags, said, capsys):
    """One that names another place is refused: 2, before anything. A wrong one is told with where the flags stand:
    Modal's own --help tells Modal's."""
    with pytest.raises(SystemExit) as ended:
        submit(flags)
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "") and said in told.err


@pytest.mark.parametrize(
    "words, terminal, quiet",
    [
        (["jobs/train.py"], True, True),
        (["jobs/train.py"], False, False),
        (["-q", "jobs/train.py"], True, False),
        (["-i", "jobs/train.py"], True, False),
        (["-e", "main", "-m", "jobs.train::main", "--json"], False, True),
        (["jobs/train.py", "-q", "--seeds", "1"], False, True),
    ],
)
def test_modals_own_lines_do_not_mix_with_ours(words, terminal, quiet):
    """On a terminal, where its last row would cover ours, and where a program reads stdout: the same command with its
    own -q, once."""
    argv = ["/usr/lib/modal/__main__.py", "run", *words]
    found = quietly(argv, ["python", "-m", "modal", "run", *words], terminal)
    assert found == (["python", "-m", "modal", "run", "-q", *words] if quiet else None)
    if found is not None:
        assert quietly([argv[0], *found[3:]], found, terminal) is None
