"""An evaluator in a process of its own: what it answers arrives whole, and whatever else it does ends in one line."""

import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from golf_core.rundir import RunDirError
from results.audit.probe.process import ChildScorer, Evaluator, Limits
from results.audit.probe.scorer import Refused, ScorerError
from results.replay.sandbox import LEVELS
from tests.results.audit.probe.alone import write_alone
from tests.results.audit.probe.legal import chunk_ttt
from tests.results.audit.probe.toys import language, text

QUICK = Limits(start_seconds=60, run_seconds=60, memory_bytes=2_000_000_000)
SCORE = 'return {"nll": np.ones(len(tokens) - 1), "order": np.arange(len(tokens) - 1), "learned": []}'


def evaluator(folder: Path, body: str, limits: Limits = QUICK, head: str = "") -> Evaluator:
    """A file whose score_stream has this body."""
    file, artifact = folder / "mine.py", folder / "artifact.npy"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    file.write_text(f"import numpy as np\n{head}\ndef score_stream(artifact, tokens, learn='on'):\n{lines}")
    np.save(artifact, language())
    return Evaluator(file, artifact, {}, limits)


def test_answers_are_what_the_evaluator_computed(tmp_path):
    """To the bit, for many streams, in one process, whatever it prints; and no process of its stays."""
    write_alone(tmp_path)
    head = "from legal import chunk_ttt"
    asked = evaluator(tmp_path, "print('x' * 100_000)\nreturn chunk_ttt(artifact, tokens, learn)", head=head)
    with ChildScorer(asked) as scorer:
        for stream, learn in ((text(), "on"), (text((20, 30)), "shuffled"), (text(), "off")):
            found, wanted = scorer(stream, learn), chunk_ttt(asked.artifact, stream, learn)
            for name in ("nll", "order", "learned"):
                assert np.array_equal(getattr(found, name), wanted[name])
        pids = everybody(scorer)
    assert not alive(pids)


def everybody(scorer: ChildScorer) -> list[int]:
    """The process that was started, and all that it started, by their ids here."""
    return [scorer.process.pid, *(one.pid for one in psutil.Process(scorer.process.pid).children(recursive=True))]


def alive(pids: list[int]) -> list[int]:
    """Those that are not gone within ten seconds."""
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if psutil.pid_exists(pid) and not ended(pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return left


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


SHUT_IN = """
import os, socket
assert "MY_TOKEN" not in os.environ and not os.listdir(os.environ["HOME"]), os.environ
for path in {places}:
    try:
        open(path).read()
    except OSError:
        continue
    raise AssertionError(path)
try:
    socket.create_connection(("192.0.2.1", 80), 5)
except OSError:
    pass
else:
    raise AssertionError("connected")
"""


def test_it_is_shut_in(tmp_path, monkeypatch):
    """An empty home, no variable that could hold a secret, no network, and of this machine's files none of ours."""
    monkeypatch.setenv("MY_TOKEN", "secret")
    secret = tmp_path / "elsewhere" / "secret.txt"
    secret.parent.mkdir()
    secret.write_text("x")
    body = SHUT_IN.format(places=[str(secret), str(Path(__file__).resolve())]).strip() + "\n" + SCORE
    with ChildScorer(evaluator(tmp_path, body)) as scorer:
        assert len(scorer(text(), "on").nll) == len(text()) - 1
        assert scorer.words.startswith(scorer.level)


def test_where_there_is_no_sandbox_nothing_is_run(tmp_path):
    """The reason is told, and the evaluator's file was not loaded."""
    asked = evaluator(tmp_path, SCORE, head="open('/loaded', 'w')")
    with pytest.raises(RunDirError, match="no sandbox could be had on this machine"), ChildScorer(asked, ()):
        pass


REFUSED = {
    "raises": ("raise ValueError('no \\x1b[31m such\\nthing')", "ValueError: no such thing (line 5 of mine.py)"),
    "leaves": ("raise SystemExit(3)", "SystemExit: 3"),
    "nothing": ("return None", "has no attribute 'nll'"),
    "lacks": ("return {'nll': np.ones(3)}", "KeyError: 'order'"),
    "objects": ("return {'nll': np.array([object()]), 'order': [0], 'learned': []}", "nll is object of shape"),
    "table": ("return {'nll': np.ones((2, 2)), 'order': [0], 'learned': []}", "nll is float64 of shape (2, 2)"),
    "halves": ("return {'nll': np.ones(2), 'order': np.array([0.5, 1]), 'learned': []}", "order is float64"),
    "greedy": ("return np.ones(10**9)", "2 GB are allowed (--memory-gb gives more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_answer_is_refused_and_it_can_be_asked_again(case, tmp_path):
    """Errors, other types, too much memory: one plain line with the evaluator's own words; the process goes on."""
    body, message = REFUSED[case]
    body = f"if learn == 'on':\n    {body}\n{SCORE}"
    with ChildScorer(evaluator(tmp_path, body)) as scorer:
        with pytest.raises(Refused) as caught:
            scorer(text(), "on")
        assert message in str(caught.value) and "for a stream of 294 tokens (learn=on)" in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(scorer(text(), "off").nll) == len(text()) - 1


ENDED = {
    "dies": ("import os\nprint('bye')\nos._exit(7)", "ended for a stream of 294 tokens", QUICK),
    "killed": ("import os\nos.kill(os.getpid(), 11)", "killed by signal 11", QUICK),
    "hangs": ("while True: pass", "took more than its time for a stream", Limits(60, 1, 2_000_000_000)),
    "endless": ("return {'nll': np.ones(9999), 'order': [0], 'learned': []}", "answered 9999 values of nll", QUICK),
    "forges": (
        "import os, sys\nos.write(int(sys.argv[4]), b'\\xff' * 64)\nos._exit(0)",
        "answered what is no message",
        QUICK,
    ),
    "forges JSON": (
        "import os, struct, sys\nos.write(int(sys.argv[4]), struct.pack('<Q', 9) + b'{\"ok\":NaN')\nos._exit(0)",
        "answered what is no message",
        QUICK,
    ),
}


@pytest.mark.parametrize("case", ENDED)
def test_what_breaks_the_pipe_ends_it_with_all_that_it_started(case, tmp_path):
    """Death, silence, forged messages: one line, and neither the process nor a child of its is left."""
    body, message, limits = ENDED[case]
    head = "import subprocess\nsubprocess.Popen(['sleep', '600'])"
    with ChildScorer(evaluator(tmp_path, body, limits, head)) as scorer:
        pids = everybody(scorer)
        assert len(pids) >= 3
        with pytest.raises(ScorerError, match=message):
            scorer(text(), "on")
        assert not alive(pids)


UNLOADED = {
    "without": ("", "mine.py has no score_stream(artifact, tokens, learn)"),
    "fails": ("import nothing_of_that_name", "No module named 'nothing_of_that_name' (line 1 of mine.py)"),
    "syntax": ("def :", "SyntaxError: invalid syntax"),
    "ends": ("import os; os._exit(0)", "ended to be loaded"),
}


@pytest.mark.parametrize("case", UNLOADED)
def test_a_file_that_offers_nothing_is_refused(case, tmp_path):
    """Before anything is asked of it."""
    content, message = UNLOADED[case]
    file = tmp_path / "mine.py"
    file.write_text(content)
    with pytest.raises(ScorerError) as caught, ChildScorer(Evaluator(file, file, {}, QUICK)):
        pass
    assert message in str(caught.value)


def test_descriptors_and_threads_do_not_pile_up(tmp_path):
    """Whatever was opened for a process is closed with it."""
    asked = evaluator(tmp_path, SCORE)
    with ChildScorer(asked):
        pass
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with ChildScorer(asked) as scorer:
            scorer(text(), "on")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_the_sandbox_gives_the_same_answers(level, tmp_path):
    """Or says why it cannot be had here, and what is told of the sandbox is the level that it was."""
    asked = evaluator(tmp_path, SCORE)
    try:
        with ChildScorer(asked, (level,)) as scorer:
            assert len(scorer(text(), "on").nll) == len(text()) - 1
            assert scorer.level == level and scorer.words.startswith(level)
    except RunDirError as error:
        assert f"not {level}: " in str(error)
