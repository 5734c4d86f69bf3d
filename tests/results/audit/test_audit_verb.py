"""results audit on the command line: forms, exit codes, logs, and foreign text that stays text."""

import json
import re

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from results.audit.finding import FAIL, PASS, REVIEW, RULES, Finding
from results.audit.logs import log_findings
from results.audit.report import Audited, markdown, table
from results.cli import app
from tests.results.audit.scripts import SCRIPT, changed

TWICE = changed(('base_bytes[token_id] = len(piece.encode("utf-8"))', "base_bytes[token_id] = len(piece.encode()) + 1"))


def called(*words, stdin=None):
    return CliRunner().invoke(app, ["audit", *map(str, words)], input=stdin)


@pytest.fixture
def files(tmp_path):
    """A legal script in a folder of its own, one with a fault, and one that is no Python."""
    (tmp_path / "mine").mkdir()
    for name, text in {"mine/train_gpt.py": SCRIPT, "fault.py": TWICE, "prose.py": "x = = 1\n" * 60}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_file_gets_one_object_and_the_gravest_decides(files):
    """Exit code 4 where one fails; the one that cannot be analysed stops none of the others."""
    done = called(files / "mine", files / "prose.py", files / "fault.py", "--format", "json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 4, done.output
    assert [one["verdict"] for one in told] == [PASS, REVIEW, FAIL]
    assert all(list(one["rules"]) == list(RULES) and one["caveat"] and one["pending"] for one in told)
    assert [one["rules"]["S9"] for one in told] == [PASS, REVIEW, FAIL]
    assert told[0]["file"] == str(files / "mine") and len(told[0]["sha256"]) == 64 and told[1]["sha256"] is None
    (found,) = [one for one in told[2]["findings"] if one["verdict"] == FAIL]
    assert (
        found["rule"] == "S9"
        and "D2" in found["authority"]
        and TWICE.splitlines()[found["line"] - 1].strip() == found["evidence"]
    )


def test_exit_codes_and_forms(files):
    """0 where all pass, 3 where one is left for review; a comment has hash, line, verdict, pending checks, caveat."""
    assert called(files / "mine").exit_code == 0
    assert called(files / "prose.py").exit_code == 3
    comment = called("-", "--format", "md", stdin=TWICE)
    assert comment.exit_code == 4
    for word in (
        "sha256",
        "FAIL",
        "`standard input:",
        "Not checked here",
        "never that a submission is legal",
        "--replay",
    ):
        assert word in comment.stdout, word


@pytest.mark.parametrize(
    "words, message",
    [
        (["a.py", "b.py", "--log", "x.log"], "belongs to one FILE"),
        (["a.py", "--run", "A='x"], "--run"),
        (["a.py", "--format", "yaml"], "not known"),
        (["-", "--smoke"], "standard input"),
        ([], "no FILE"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(words, message):
    """Exit code 2 and one line."""
    done = called(*words)
    assert done.exit_code == 2 and message in done.stderr


def test_a_run_command_settles_the_configuration(files):
    """The same file, and another verdict."""
    done = called(files / "mine", "--run", "RESERVE_SECONDS=0 torchrun train_gpt.py", "--json")
    assert done.exit_code == 4 and json.loads(done.stdout)["rules"]["S11"] == FAIL


LOG = """world_size:8 grad_accum_steps:1
train_shards:{shards} val_tokens:{tokens}
seed:1337
step:1000/2000 train_loss:2.5 train_time:300000ms step_avg:300.00ms
step:2000/2000 val_loss:2.0606 val_bpb:1.2172 train_time:{train}ms step_avg:300.00ms
Total submission size int8+zlib: {size} bytes
final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:1.2244 eval_time:{evaluate}ms
final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570
"""
SOUND = {"shards": 80, "tokens": 62021632, "train": 600038, "size": 15863489, "evaluate": 1401}


@pytest.mark.parametrize(
    "changes, rule",
    [
        ({}, None),
        ({"shards": 1499}, "D4"),
        ({"tokens": 9662464}, "D4"),
        ({"train": 602048}, "B1"),
        ({"evaluate": 688000}, "B2"),
        ({"size": 16024793}, "C1"),
    ],
    ids=["sound", "leaky shards", "partial validation", "long training", "long evaluation", "large artifact"],
)
def test_logs_are_told_apart_from_the_source(changes, rule, tmp_path):
    """A fault in a log is found with its line; the verdict of the source stays."""
    log = tmp_path / "train.log"
    log.write_text(LOG.format(**{**SOUND, **changes}))
    found = tuple(log_findings(log, None))
    bad = [one for one in found if one.verdict == FAIL]
    assert [one.rule for one in bad] == ([rule] if rule else [])
    assert all(one.line and one.evidence in log.read_text() for one in bad)
    told = Audited("train_gpt.py", (), sha256="0" * 64, bytes=1, logs=found).to_dict()
    assert told["verdict_of_source"] == PASS and told["verdict"] == (FAIL if rule else PASS)
    assert not any(one.startswith("logs") for one in told["pending"])


def test_foreign_text_stays_text():
    """No escape, line, heading, link, mention or HTML of a file's name or source gets into what is printed."""
    nasty = "x\x1b[31m`]\n# Head\n[a](http://b) <img> @all | \u202e"
    found = Audited(
        nasty, (Finding("S1", FAIL, "[R] A2", nasty, nasty, 3, nasty),), sha256="0" * 64, bytes=1, main=nasty
    )
    for text in (markdown(found), table([found]), json.dumps(found.to_dict(), ensure_ascii=False)):
        assert "\x1b" not in text and "\u202e" not in text and "\n# Head" not in text
    page = MarkdownIt().render(markdown(found))
    assert (
        "<img" not in page
        and "<a " not in page
        and "<h1" not in page
        and "@all" not in re.sub(r"<code>.*?</code>", "", page)
    )
