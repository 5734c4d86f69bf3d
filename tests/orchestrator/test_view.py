"""What a person sees: rows, lines, live table, and how far an attempt is."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.rundir import write_json
from orchestrator.attempts import NODE, create
from orchestrator.overview import Overview, Row
from orchestrator.progress import Progress, Tail
from orchestrator.view import LineView, LiveView, clock, describe
from tests.orchestrator.toy import limits, submission


def row(**changed):
    values = {"seed": 42, "run_id": "r", "state": "running", "attempt": 1, "attempts": 1, "note": "", "folder": None}
    progress = Progress(stage="train", phase="train", step=50, steps=100, loss=3.21, tokens_per_s=12345.6, fraction=0.5,
                        seconds_left=61.0)  # fmt: skip
    return Row(**(values | {"progress": progress} | changed))


def test_a_running_seed_in_words():
    """State, step, loss, rate and time left are in the line."""
    assert describe(row()) == (
        "seed 42: running, attempt 1 · train · step 50/100 · loss 3.2100 · 12,346 tokens/s · 1:01 left"
    )


def test_an_evaluating_seed_shows_its_score_so_far():
    """In evaluation the share and the BPB so far are shown, not the last training step."""
    progress = Progress(stage="evaluate", phase="sliding", step=100, steps=100, loss=2.0, fraction=0.25, bpb=1.5)
    assert describe(row(progress=progress)) == "seed 42: running, attempt 1 · sliding · 25% · BPB so far 1.5000"


def test_not_a_terminal_gets_one_line_per_change():
    """The same row again prints nothing; a next tenth, phase or state prints a line; no ANSI."""
    stream = io.StringIO()
    view = LineView(stream)
    for progress in (Progress(phase="train", fraction=f) for f in (0.5, 0.51, 0.59, 0.6)):
        view.update([row(progress=progress)])
    view.update([row(state="done", progress=Progress(phase="ttt"))])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 and lines[-1] == "seed 42: done · attempt 1 is counted" and "\x1b" not in stream.getvalue()


def test_the_score_of_a_diagnostic_run_is_stamped(monkeypatch):
    """In words and in the live table, while it is evaluated and when it is done."""
    progress = Progress(stage="evaluate", phase="ttt", fraction=0.25, bpb=1.5)
    for state, words in (("running", "BPB so far 1.5000"), ("done", "BPB 1.5000")):
        shown = row(state=state, progress=progress, diagnostic_only=True)
        assert describe(shown).endswith(f"{words} (diagnostic)")
        assert "1.5000 (diagnostic)" in drawn(monkeypatch, [shown])


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drawn(monkeypatch, rows=None, **environ):
    for name, value in ({"TERM": "xterm-256color", "COLUMNS": "160"} | environ).items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    view = LiveView(stream)
    view.update(rows or [row(), row(seed=7, state="done")])
    view.close()
    return stream.getvalue()


def test_a_terminal_gets_a_row_a_seed(monkeypatch):
    """The live table names each seed, its stage, step, loss, rate and time left, with a bar."""
    shown = drawn(monkeypatch)
    for text in ("42", "running", "train", "50/100", "3.2100", "12,346", "1:01", "━", "done"):
        assert text in shown


def test_no_color_is_honoured(monkeypatch):
    """With NO_COLOR no colour code is written, though the table is still redrawn in place."""
    assert "\x1b[3" in drawn(monkeypatch) or "\x1b[38" in drawn(monkeypatch)
    plain = drawn(monkeypatch, NO_COLOR="1")
    assert not any(f"\x1b[{code}" in plain for code in ("31", "32", "38;", "35", "33"))


def test_progress_follows_the_files(tmp_path):
    """Steps, evaluation and phases are folded as they are appended; a half line waits; a cut file starts anew."""
    tail, metrics, phases = Tail(tmp_path), tmp_path / "metrics.jsonl", tmp_path / "phases.jsonl"
    assert tail.read() == Progress()
    phases.write_text(json.dumps({"stage": "train", "phase": "train", "edge": "begin", "t": 0.1}) + "\n")
    step = {
        "event": "step",
        "step": 5,
        "steps": 10,
        "loss": 2.5,
        "tokens_per_s": 9.0,
        "elapsed_s": 4.0,
        "progress": 0.5,
    }
    metrics.write_text(json.dumps(step) + "\n" + '{"event": "st')
    now = tail.read()
    assert (now.phase, now.step, now.fraction, now.seconds_left) == ("train", 5, 0.5, 4.0)
    metrics.write_text('{"event": "step", "step": 6}\n')
    assert tail.read().step == 6


def test_evaluation_shows_nothing_of_training(tmp_path, monkeypatch):
    """Step, loss, rate and validation of training go where evaluation begins; a done row has the last score alone."""
    tail = Tail(tmp_path)
    edges = [("train", "stage"), ("train", "train"), ("evaluate", "stage"), ("evaluate", "sliding")]
    phases = [{"stage": stage, "phase": phase, "edge": "begin", "t": 0.0} for stage, phase in edges]
    step = {"event": "step", "step": 77, "steps": 88, "loss": 2.5, "tokens_per_s": 54321.0, "progress": 1.0}
    training = [step | {"elapsed_s": 9.0}, {"event": "val", "val_bpb": 1.9}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in training))
    for count in (2, 4):
        (tmp_path / "phases.jsonl").write_text("".join(json.dumps(one) + "\n" for one in phases[:count]))
        now = tail.read()
        assert (now.step, now.loss, now.bpb) == ((77, 2.5, 1.9) if count == 2 else (None, None, None))
    late = Tail(tmp_path).read()
    assert (late.step, late.loss, late.tokens_per_s, late.bpb, late.fraction) == (None,) * 5
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"event": "score", "stage": "sliding", "val_bpb": 1.25}) + "\n")
    done = row(state="done", progress=tail.read())
    assert describe(done) == "seed 42: done · attempt 1 is counted · BPB 1.2500"
    shown = drawn(monkeypatch, [done])
    assert "1.2500" in shown and "77" not in shown and "2.5000" not in shown


@pytest.mark.parametrize(
    "edges, scored, bpb, fraction",
    [
        ([("train", "stage"), ("train", "validate")], "pre_quant", 1.5, 0.25),
        ([("train", "stage"), ("train", "validate"), ("train", "compress")], "pre_quant", None, None),
        ([("train", "validate"), ("evaluate", "stage"), ("evaluate", "load")], "step 100", None, None),
        ([("evaluate", "stage"), ("evaluate", "sliding")], "sliding", 1.5, 0.25),
        ([("evaluate", "stage"), ("evaluate", "ttt")], "sliding", None, None),
    ],
)
def test_how_far_an_evaluation_was_is_not_told_of_what_came_after(edges, scored, bpb, fraction):
    """The two files are read in turn: lines of a phase may come when the next has begun."""
    progress = Progress()
    for stage, phase in edges:
        progress.take({"stage": stage, "phase": phase, "edge": "begin"}, 1.0)
    progress.take({"event": "eval", "stage": scored, "done": 1, "total": 4, "bpb": 1.5}, 2.0)
    assert (progress.bpb, progress.fraction) == (bpb, fraction)


names = st.sampled_from(["event", "step", "progress", "edge", "phase", "done", "total", "bpb", "elapsed_s"])
values = st.one_of(st.none(), st.text(), st.floats(), st.sampled_from(["step", "eval", "begin", "train"]))


@given(st.lists(st.dictionaries(names, values)), st.floats())
def test_no_line_breaks_the_view(events, fraction):
    """Whatever a bundle writes is folded and described without failing, and seed and attempt are still told."""
    progress = Progress()
    for event in [*events, {"event": "step", "progress": fraction, "elapsed_s": fraction}]:
        progress.take(event, 1.0)
    shown = io.StringIO()
    LineView(shown).update([row(progress=progress)])
    assert describe(row(progress=progress)).startswith("seed 42: running, attempt 1")
    assert shown.getvalue().startswith("seed 42: running, attempt 1")


def test_time_is_told_by_the_clock():
    """Seconds become m:ss, and h:mm:ss from an hour on."""
    assert [clock(s) for s in (0, 59.6, 125, 3725)] == ["0:00", "1:00", "2:05", "1:02:05"]


def test_what_was_sent_to_a_node_is_not_called_void(runs_dir):
    """Without a controller nobody knows how it stands there: it may be training still, and be sealed in the end."""
    asked = submission(seeds=(1, 2))
    runs_dir.mkdir()
    there, here = (create(runs_dir, asked.run_json(run, 1, limits()), asked.bundle) for run in asked.runs)
    write_json(there / NODE, {"host": "n7"})
    rows = Overview(runs_dir, [(run.seed, run.run_id) for run in asked.runs]).rows(controlled=False)
    assert [row.state for row in rows] == ["stopped", "stopped"] and here.exists()
    assert "was sent to n7 and may go on there" in describe(rows[0]) and "void" not in describe(rows[0])
    assert "attempt 1 is void" in describe(rows[1])
