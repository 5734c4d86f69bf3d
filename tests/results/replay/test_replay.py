"""The replay: an honest score comes again from its artifact alone; what reaches for more is refused, and shows."""

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from results.audit.record import read_records, seal_of
from results.cli import app
from results.pack import pack
from results.project import Project
from results.recount.model import RecountError
from results.replay import sandbox, trace
from results.replay.replay import replay
from results.replay.sandbox import HOOK, LANDLOCK, LEVELS, NAMESPACES, work_folder
from results.replay.trace import opened
from tests.results.replay.evaluators import evaluator, need, sealed, why_not


def replayed(tmp_path, code, levels=LEVELS, **more):
    """What a replay of the one attempt of this code finds."""
    if len(levels) == 1:
        need(*levels)
    found, source = sealed(tmp_path, code, **more)
    return replay(found.evidence[7], source, found.spec.runs_dir, levels)


def said(told, verdict):
    return "; ".join(says for one, says in told.findings if one == verdict)


@pytest.mark.parametrize("level", LEVELS)
def test_an_honest_score_comes_again(tmp_path, level):
    """To the last digit, at every level of the sandbox; which one it was is told, and the weakest does not pass."""
    told = replayed(tmp_path, evaluator(), [level])
    assert told.evidence["sandbox"] == level and "to the last digit" in told.says, told.findings
    assert told.verdict == ("review" if level == HOOK else "pass"), told.findings
    assert set(told.evidence["opened"]["own"]) == {"train_gpt.py", "artifact.bin", "validation/x_val_000000.bin"}
    assert told.evidence["counted_bytes"]["total"] == told.evidence["counted_bytes"]["sealed"]
    assert told.evidence["opened"]["outside"] == told.evidence["opened"]["network"] == []


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_that_is_not_its_own_is_not_to_be_had(tmp_path, level):
    """A training shard, another attempt's file, what lies hidden in a home or beside: whoever goes on without has
    another score, and each path is told."""
    grave = [tmp_path / "data" / "x_train_000000.bin", tmp_path / "runs" / "attempts" / "other-a1" / "artifact.bin"]
    strange = [tmp_path / "home" / ".cache" / "tables.bin", tmp_path / "hidden.bin"]
    for path in (*grave[1:], *strange):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"targets")
    paths = [str(path) for path in (*grave, *strange)]
    reach = f"""
for path in {paths!r}:
    try:
        secret += open(path, "rb").read()[-7:]
    except OSError:
        pass
"""
    told = replayed(tmp_path, evaluator(reach), [level], secret=b"what it read when it was scored")
    assert told.verdict == "fail" and "apart, two replays 0" in said(told, "fail"), told.findings
    assert all(path in said(told, "fail") for path in paths[:2])
    assert all(path in said(told, "review") for path in paths[2:])
    assert told.evidence["opened"]["outside"] == paths


def test_whoever_cannot_do_without_fails(tmp_path):
    """Its last words are the reason."""
    told = replayed(tmp_path, evaluator(f"secret = open({str(tmp_path / 'gone.bin')!r}, 'rb').read()"))
    assert "does not score from its artifact alone: exit code 1: FileNotFoundError" in said(told, "fail")


@pytest.mark.parametrize("level", LEVELS)
def test_the_network_is_not_reached(tmp_path, level):
    """A server on this machine's loopback hears nothing; an address elsewhere is told, where there was a socket."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen():
            with contextlib.suppress(OSError):
                heard.append(server.accept()[0])

        thread = threading.Thread(target=listen)
        thread.start()
        port = server.getsockname()[1]
        reach = "import socket\n" + "".join(
            f"try:\n    secret = socket.create_connection(({host!r}, {at}), 2).recv(9)\nexcept OSError:\n    pass\n"
            for host, at in (("127.0.0.1", port), ("192.0.2.1", 80))
        )
        told = replayed(tmp_path, evaluator(reach), [level])
        server.shutdown(socket.SHUT_RDWR)
    thread.join()
    assert heard == [] and "to the last digit" in told.says, told.findings
    if level != LANDLOCK:
        assert "it asked the network: 192.0.2.1" in said(told, "fail")


@pytest.mark.parametrize("level", [NAMESPACES, LANDLOCK])
def test_nothing_of_the_machine_can_be_written(tmp_path, level):
    """Not its bundle, not its artifact, not what a program outside would read; its own folder is its own."""
    (tmp_path / "victim").write_text("as it was")
    places = [str(tmp_path / "victim"), str(tmp_path / "new"), "/usr/new", "/etc/new", "/proc/self/oom_score_adj"]
    reach = f"""
for path in (a.artifact, __file__, *{places!r}):
    try:
        open(path, "ab").write(b"1")
        secret += b"wrote " + path.encode()
    except OSError:
        pass
Path(a.out, "mine").write_text("x")
"""
    told = replayed(tmp_path, evaluator(reach), [level])
    assert "to the last digit" in told.says, told.findings
    assert (tmp_path / "victim").read_text() == "as it was" and not (tmp_path / "new").exists()


@pytest.mark.parametrize("level", [NAMESPACES, LANDLOCK])
def test_native_code_does_not_walk_around_the_kernel(tmp_path, level):
    """open(2) of the C library, which no hook of Python sees, finds no file either; nor does a namespace within."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"targets")
    reach = f"""
import ctypes
libc = ctypes.CDLL(None)
libc.unshare(0x10020000)
libc.mount(b"none", b"/", None, 0x1020, None)
libc.umount2(b"/", 2)
handle = libc.open({str(secret)!r}.encode(), 0)
secret = os.read(handle, 99) if handle >= 0 else b""
"""
    told = replayed(tmp_path, evaluator(reach), [level], secret=b"targets")
    assert "apart, two replays 0" in said(told, "fail"), told.findings


def test_a_score_that_differs_is_held_against_two_replays(tmp_path):
    """One that is never the same twice passes within their spread; one that is always the same does not."""
    noisy = evaluator(score="import time; bpb += (time.time_ns() % 1000) * 1e-7")
    told = replayed(tmp_path, noisy, off=5e-5)
    assert told.evidence["null_spread"]["sliding"] > 0 and "two replays" in told.says
    (tmp_path / "other").mkdir()
    steady = replayed(tmp_path / "other", evaluator(), off=0.01)
    assert steady.verdict == "fail" and "0.01 apart, two replays 0" in said(steady, "fail"), steady.findings


@pytest.mark.parametrize("level", LEVELS)
def test_an_evaluation_without_an_end_is_ended(tmp_path, monkeypatch, level):
    """With all that it started, in a session of its own too."""
    monkeypatch.setattr("results.replay.replay.SPARE_S", -61.5)  # beyond twice 31.25 s
    mark = f"golf-test-{os.urandom(6).hex()}"
    start = f"[sys.executable, '-c', 'import time; time.sleep(600)', {mark!r}]"
    sleeper = f"import subprocess, sys, time\nsubprocess.Popen({start}, start_new_session=True)\ntime.sleep(600)"
    told = replayed(tmp_path, evaluator(sleeper), [level])
    assert "its time was over" in said(told, "fail")
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if mark in read(path)]
    assert left == []


def read(path):
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def test_hooks_that_are_silenced_are_missed(tmp_path):
    """Whoever takes the words of the hook away is told of."""
    reach = "import shutil; shutil.rmtree(Path(a.out).parent / 'trace'); Path(a.out).parent.joinpath('trace').mkdir()"
    told = replayed(tmp_path, evaluator(reach))
    assert "the hook was left out, or its words taken away" in said(told, "review") and told.verdict == "review"


def test_other_data_than_the_run_names_is_not_replayed(tmp_path):
    """A changed shard is refused before anything runs."""
    found, source = sealed(tmp_path, evaluator())
    (source.data / "x_val_000000.bin").write_bytes((source.data / "x_train_000000.bin").read_bytes())
    with pytest.raises(RecountError, match="the run's id names"):
        replay(found.evidence[7], source, found.spec.runs_dir)


def test_the_command_keeps_what_it_finds(tmp_path):
    """`verify --replay` writes a record for the seal; the gate is there, and again without the option."""
    shut = [level for level in (NAMESPACES, LANDLOCK) if not why_not(level)]
    found, source = sealed(tmp_path, evaluator())
    pack(found, Project(), found.spec.folder / "submission")
    asked = ["verify", found.spec.submission_id[:12], "--runs-dir", str(found.spec.runs_dir), "--json"]
    more = ["--replay", "--data", str(source.data), "--tokenizer", str(source.tokenizer)]
    for words in ([*asked, *more], asked):
        done = CliRunner().invoke(app, words)
        gate = next(one for one in json.loads(done.stdout)["gates"] if one["name"] == "replay")
        assert gate["verdict"] == ("pass" if shut else "unknown") and "to the last digit" in gate["why"], done.stderr
    folder = found.evidence[7].folder
    (record,) = read_records(found.spec.runs_dir, folder.name, seal_of(folder))
    assert record.evidence["sandbox"] == [*shut, HOOK][0] and str(tmp_path) not in json.dumps(record.evidence)


def test_a_level_that_cannot_be_had_is_told(tmp_path, monkeypatch):
    """The next one is taken, and the reason stands in what is said; where there is none, nothing is run."""
    need(LANDLOCK)
    found, source = sealed(tmp_path, evaluator())
    jail = tmp_path / "jail.py"
    text = sandbox.JAIL.read_text().replace('"x86_64": 155, "aarch64": 41', "")
    jail.write_text(text)
    monkeypatch.setattr(sandbox, "JAIL", jail)
    told = replay(found.evidence[7], source, found.spec.runs_dir)
    assert told.evidence["sandbox"] == LANDLOCK and "not namespaces: " in told.evidence["sandbox_words"]
    jail.write_text(text.replace("LANDLOCK_RESTRICT = 442, 444", "LANDLOCK_RESTRICT = 442, 9999"))
    with pytest.raises(sandbox.SandboxError, match="not landlock: Landlock: Function not implemented"):
        replay(found.evidence[7], source, found.spec.runs_dir, [NAMESPACES, LANDLOCK])


def test_a_planted_file_among_the_packages_is_told():
    """Of what was read among the packages, what none of them lists, or what changed since the run began."""
    site = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    listed = site / "numpy" / "__init__.py"
    with work_folder() as work:
        seen = opened([("read", str(listed)), ("list", str(site))], work)
        assert (seen.packages, seen.unlisted, seen.recent) == (1, {}, {})
        since = opened([("read", str(listed))], work, since=listed.stat().st_ctime - 1)
        assert list(since.recent) == [str(listed)]
    assert trace.is_listed(str(listed), str(site)) and not trace.is_listed(str(site / "numpy" / "w.bin"), str(site))


def test_a_folder_that_a_library_looks_for_beside_the_script_is_no_file_that_is_missing():
    """A CUDA build of torch lists such folders on every path of Python's; a file that is asked for there shows."""
    with work_folder() as work:
        looked, asked = str(work.inside / "nvidia" / "cublas" / "lib"), str(work.inside / "cache.pt")
        assert opened([("list", looked)], work).outside == []
        assert opened([("list", looked), ("read", asked)], work).outside == [asked]
