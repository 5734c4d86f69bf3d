"""Hostile folders and documents: refused in one clear line, within bounds, nothing executed, nothing followed."""

import json
import lzma
import os
import socket
import subprocess
import sys
from base64 import b85encode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golf_core.bundle_pack import FRAME
from golf_core.policy import load_policy
from golf_core.rundir import RunDirError
from results.untrusted import MAX_FILES, Folder, Refused, parse_document, plain
from results.verify.check import check_logs
from results.verify.show import markdown_text, table_text
from tests.results.hostile import ANY_JSON
from tests.results.verify.folders import Run, Submission

POLICY = load_policy("record-2026-03").to_dict()
SMALL = Submission((Run(1337, 1.08012345), Run(42, 1.08098765)))


def verify(folder):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "results", "verify", str(folder)],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )


def link(target):
    return lambda path: path.symlink_to(target)


def unix_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def deep(path):
    path.joinpath(*["a"] * 6).mkdir(parents=True)


ENTRIES = {
    "a link to a file": ("train_seed42.log", link("/etc/passwd"), "a symbolic link"),
    "a link to a folder": ("more", link("/etc"), "a symbolic link"),
    "a link to itself": ("more", link("more"), "a symbolic link"),
    "a link upwards": ("more", link(".."), "a symbolic link"),
    "a dangling link": ("README.md", link("nowhere"), "a symbolic link"),
    "a pipe": ("train_seed42.log", lambda path: os.mkfifo(path), "a named pipe"),
    "a socket": ("s.log", unix_socket, "a socket"),
    "a terminal escape": ("\x1b]0;mine\x07.log", lambda path: path.write_text(""), "characters"),
    "a line break": ("a\nb.log", lambda path: path.write_text(""), "characters"),
    "a turned name": ("a\u202egol.log", lambda path: path.write_text(""), "characters"),
    "a backslash": ("..\\..\\x.log", lambda path: path.write_text(""), "characters"),
    "a name that is no text": (b"\xff\xfe.log", lambda path: path.write_text(""), "characters"),
    "deep folders": ("deep", deep, "deeper than"),
}


@pytest.mark.parametrize("name, make, words", ENTRIES.values(), ids=ENTRIES.keys())
def test_what_is_no_plain_file_refuses_the_folder(name, make, words, tmp_path):
    """Links, pipes, sockets, deep folders and unprintable names: nothing of them is opened, the line is printable."""
    folder = SMALL.write(tmp_path / "s")
    path = folder / (os.fsdecode(name) if isinstance(name, bytes) else name)
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises(Refused, match=words) as caught:
        Folder(folder)
    assert str(caught.value).isprintable() and "root:" not in str(caught.value)


def test_the_command_refuses_in_one_line(tmp_path):
    """Exit code 5, a line on stderr, nothing on stdout; 2 or 5 for what is no folder."""
    folder = SMALL.write(tmp_path / "s")
    (folder / "train_seed42.log").unlink()
    os.mkfifo(folder / "train_seed42.log")
    done = verify(folder)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (5, "", 1), done.stderr
    assert "named pipe" in done.stderr
    done = verify(tmp_path / "s" / "README.md")
    assert done.returncode == 5 and "is not a folder" in done.stderr
    (tmp_path / "loop").symlink_to("loop")
    done = verify(tmp_path / "loop")
    assert done.returncode == 5 and done.stderr.count("\n") == 1


def test_too_many_files_are_refused(tmp_path):
    """The count is bounded before anything is read."""
    for i in range(MAX_FILES + 1):
        (tmp_path / f"{i}").touch()
    with pytest.raises(Refused, match="more than"):
        Folder(tmp_path)


@pytest.mark.parametrize("name", ["submission.json", "README.md", "train_seed42.log", "train_gpt.py"])
def test_a_huge_file_is_refused_or_left_unread(name, tmp_path):
    """A terabyte of holes costs no memory: what must be read is refused by its size."""
    folder = SMALL.write(tmp_path / "s")
    with (folder / name).open("r+b") as file:
        file.truncate(2**30 if name != "train_seed42.log" else 2**38)
    if name == "train_gpt.py":
        checked = check_logs(Folder(folder), POLICY)
        assert next(gate for gate in checked.gates if gate.name == "artifact").verdict == "fail"
    else:
        with pytest.raises(RunDirError, match="bytes"):
            check_logs(Folder(folder), POLICY)


DOCUMENTS = {
    "nothing": ("", "JSON"),
    "a list": ("[]", "holds list"),
    "a word": ('"x"', "holds str"),
    "a large number": ('{"val_bpb": 1e400}', "too large"),
    "a long number": ('{"bytes_total": ' + "9" * 5000 + "}", "too large"),
    "a huge exponent": ('{"val_bpb": 1e999999999}', "too large"),
    "a long fraction": ('{"val_bpb": 1.' + "1" * 100_000 + "}", "too long"),
    "NaN": ('{"val_bpb": NaN}', "NaN is not a number"),
    "infinity": ('{"val_bpb": -Infinity}', "Infinity is not a number"),
    "deep lists": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper"),
    "deep objects": ('{"a":' * 5000 + "1" + "}" * 5000, "nested deeper"),
    "many values": ('{"seeds": [' + ",".join("1" for _ in range(150_000)) + "]}", "more than 100,000 values"),
    "a key twice": ('{"val_bpb": 1.08, "val_bpb": 1.07}', "stands twice"),
    "an inner key twice": ('{"seed_results": {"42": 1.08, "42": 1.07}}', "stands twice"),
    "not UTF-8": (b'{"a": "\xff\xfe"}', "not UTF-8"),
    "UTF-16": ('{"val_bpb": 1.08}'.encode("utf-16"), "not UTF-8"),
    "cut": ('{"val_bpb": 1.08', "JSON"),
    "followed": ('{"val_bpb": 1.08} rm -rf', "JSON"),
}


@pytest.mark.parametrize("text, words", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_document_that_is_none_is_refused(text, words, tmp_path):
    """With its place and what is wrong, in one printable line."""
    folder = SMALL.write(tmp_path / "s")
    (folder / "submission.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunDirError, match=words) as caught:
        check_logs(Folder(folder), POLICY)
    assert str(caught.value).isprintable() and "submission.json" in str(caught.value) and len(str(caught.value)) < 400


FLOODS = {
    "a table of seeds": {"seed_results": {str(i): {"val_bpb": 1.08} for i in range(30_000)}},
    "a list of seeds": {"seeds": list(range(50_000))},
    "many numbers": {"seed_results": {"42": {f"val_bpb{'_' * i}": 1.08 for i in range(3000)}}},
}


@pytest.mark.parametrize("changes", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_of_claims_is_bounded(changes, tmp_path):
    """Refused, or answered, however many seeds and numbers a document holds: the test ends."""
    folder = Submission(SMALL.runs, changes=changes).write(tmp_path / "s")
    try:
        assert not check_logs(Folder(folder), POLICY).passed
    except RunDirError as error:
        assert "claims" in str(error)


TEXTS = {
    "dashes": "| Seed | BPB |\n" + "-" * 3900 + "|x\n",
    "columns": "|" + "Seed|" * 700 + "\n|" + "-|" * 700 + "\n|" + "42|" * 700 + "\n",
    "headlines": "**val_bpb: 1.0 val_bpb " + "1.08 bpb " * 400 + "**\n",
    "stars": "*" * 3900 + "\n",
    "blanks": "# val_bpb" + " " * 3900 + "\n",
}


@pytest.mark.parametrize("line", TEXTS.values(), ids=TEXTS.keys())
def test_a_readme_made_to_be_slow_is_read_quickly(line, tmp_path):
    """Megabytes of lines that patterns could stumble over: the test ends."""
    folder = SMALL.write(tmp_path / "s")
    (folder / "README.md").write_text(line * (3_000_000 // len(line)))
    try:
        check_logs(Folder(folder), POLICY)
    except RunDirError as error:
        assert "claims" in str(error)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    """Editors that put one are forgiven."""
    folder = SMALL.write(tmp_path / "s")
    for name in ("submission.json", "README.md"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert {one.verdict for one in check_logs(Folder(folder), POLICY).findings} == {"pass"}


WRONG_TYPES = [None, True, "1.08", "<script>", [], {}, [1.08], {"a": 1}, -1, 0, 1e17, "\x1b[31m", "x" * 5000]


@pytest.mark.parametrize("value", WRONG_TYPES, ids=repr)
@pytest.mark.parametrize("key", ["val_bpb", "seeds", "seed_results", "bytes_total", "compliance", "n_seeds"])
def test_a_value_of_another_type_is_no_claim(key, value, tmp_path):
    """It is told or left out, never a crash, and never supports anything."""
    folder = SMALL.write(tmp_path / "s")
    facts = SMALL.facts | {key: value}
    (folder / "submission.json").write_text(json.dumps(facts))
    checked = check_logs(Folder(folder), POLICY)
    assert not checked.passed
    if key == "val_bpb":
        assert all(one.verdict != "pass" for one in checked.findings if one.place == "submission.json: val_bpb")
    for text in (table_text(checked), markdown_text(checked)):
        assert (
            "\x1b" not in text
            and "<script>" not in markdown_text(checked)
            and all(len(x) < 1200 for x in text.splitlines())
        )


def test_what_is_echoed_is_plain_text(tmp_path):
    """Escapes, turned text and markup in keys, values, README and logs never reach the terminal or the page."""
    evil = "\x1b[2J\x1b]0;own\x07\u202e<img src=x onerror=alert(1)>|`*"
    changes = {"seed_results": {"42": {f"val_bpb{evil}": 1.0, "val_bpb": 3.0}}, evil: 1, f"val_bpb {evil}": 2.0}
    folder = Submission(SMALL.runs, changes=changes).write(tmp_path / "s")
    (folder / "README.md").write_text(
        f"# {evil} val_bpb: 1.05\n\n| Seed | BPB {evil} |\n|---|---|\n| 42 | 1.0 {evil} |\n"
    )
    with (folder / "train_seed42.log").open("a") as file:
        file.write(f"final val_bpb:{evil}\nseed: {evil}\n")
    checked = check_logs(Folder(folder), POLICY)
    for text in (table_text(checked), markdown_text(checked), json.dumps(checked.to_dict(), ensure_ascii=False)):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "<img" not in markdown_text(checked)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_packed_bomb_is_not_unpacked(depth, tmp_path):
    """train_gpt.py that unpacks to gigabytes, or to another of its kind: its bytes are counted, nothing more."""
    data = b"# " + b"0" * 64_000_000 if depth == 1 else b"print()\n"
    for _ in range(depth):
        packed = b85encode(lzma.compress(data, preset=1)).decode()
        data = FRAME.format(title="A bundle of Parameter Golf.", literal=packed).encode()
    Submission(SMALL.runs, code=data).write(tmp_path / "s")
    checked = check_logs(Folder(tmp_path / "s"), POLICY)
    assert next(one for one in checked.findings if one.place == "train_gpt.py").derived == f"{len(data):,} B"


def test_nothing_of_the_folder_is_executed(tmp_path):
    """Python files that the interpreter would load, were the folder on its path, stay unread."""
    folder = SMALL.write(tmp_path / "s")
    for name in ("sitecustomize.py", "usercustomize.py", "results.py", "json.py", "conftest.py", "golf_core.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (folder / "train_gpt.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    before = sorted(folder.iterdir())
    assert verify(folder).returncode == 4
    assert not (tmp_path / "ran").exists() and sorted(folder.iterdir()) == before


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_document_gives_findings_or_a_refusal(tmp_path, data):
    """Whatever stands under the keys of a submission.json: an answer, never another error, never a pass of it all."""
    facts = dict(SMALL.facts)
    for key in data.draw(
        st.lists(st.sampled_from([*facts, "compliance", "n_seeds", "seed", "seed_scores"]), max_size=3)
    ):
        facts[key] = data.draw(ANY_JSON)
    for seed in data.draw(st.lists(st.sampled_from(["42", "1337", "x"]), max_size=2)):
        facts["seed_results"] = {**(facts["seed_results"] if isinstance(facts["seed_results"], dict) else {})}
        facts["seed_results"][seed] = data.draw(ANY_JSON)
    folder = SMALL.write(tmp_path / "s")
    (folder / "submission.json").write_text(json.dumps(facts))
    try:
        checked = check_logs(Folder(folder), POLICY)
    except RunDirError as error:
        assert str(error).isprintable()
        return
    assert not checked.passed and table_text(checked).replace("\n", "").isprintable()
    json.dumps(checked.to_dict(), allow_nan=False)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(["submission.json", "README.md", "train_seed42.log"]))
def test_any_bytes_give_findings_or_a_refusal(tmp_path, data, name):
    """A file that is cut, flipped, or spliced: an answer or a refusal; a score that passes stands in a log."""
    folder = SMALL.write(tmp_path / "s")
    raw = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        cut = data.draw(st.integers(0, 20))
        raw[at : at + cut] = data.draw(st.binary(max_size=12))
    (folder / name).write_bytes(bytes(raw))
    try:
        checked = check_logs(Folder(folder), POLICY)
    except RunDirError as error:
        assert str(error).isprintable()
        return
    assert table_text(checked).replace("\n", "").isprintable()
    logs = "".join(path.read_text(errors="replace") for path in folder.glob("*.log"))
    for one in checked.findings:
        if one.verdict == "pass" and ".val_bpb" in one.place and "seed_results" in one.place:
            assert one.derived in logs


@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=60) | st.recursive(ANY_JSON, lambda x: st.lists(x)).map(lambda x: json.dumps({"a": x})))
def test_a_document_is_an_object_or_a_value_error(text):
    """Nothing but ValueError, whose message can be shown, leaves the reader of documents."""
    try:
        assert isinstance(parse_document(text), dict)
    except ValueError as error:
        assert plain(error) == plain(plain(error))


@given(st.text())
def test_plain_text_is_one_printable_line(text):
    """Of any text."""
    shown = plain(text)
    assert shown.isprintable() and len(shown) <= 200


def test_a_folder_swapped_while_read_is_refused(tmp_path):
    """A file that became a link after the folder was listed is not followed."""
    folder = SMALL.write(tmp_path / "s")
    listed = Folder(folder)
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/passwd")
    with pytest.raises(Refused, match="symbolic link"):
        listed.read("README.md")
