"""Submits to a real cluster: the laptop may leave and come back, any machine may ask, and nothing is done twice."""

import json
import os
import re
import signal
import subprocess

import pytest

from tests.cluster import HEAD
from tests.orchestrator.remote import PATIENCE, Laptop, interrupt_default, scores
from tests.orchestrator.toy import toy_text
from tests.processes import command_line, until

pytestmark = pytest.mark.xdist_group("cluster")

SLOW = toy_text(steps=8, pause=0.5)


@pytest.fixture
def make_laptop(make_bench, cluster):
    def make(text=SLOW, name="laptop", **kwargs):
        return make_bench(text, name, Laptop, cluster=cluster, flags=("-y", "--parallel", "--no-rehearsal"), **kwargs)

    return make


def leave(laptop, when="running, attempt 1"):
    """Submit, and Ctrl-C once a line says `when`; what was printed."""
    process = subprocess.Popen(
        interrupt_default(laptop.command("submit")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=laptop.folder,
        env=laptop.environment(),
    )
    said = []
    with process:
        for line in process.stderr:
            said.append(line)
            if when in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130, "".join(said)
    return "".join(said)


def test_a_laptop_leaves_and_another_machine_brings_it_home(make_laptop):
    """Ctrl-C detaches and says how to come back; a machine that knows the address alone sees it run to its end and
    fetches it whole; the same submit again starts nothing and has the same bytes."""
    laptop = make_laptop()
    said = leave(laptop)
    sid = re.search(r"detached: ([0-9a-f]{12}) goes on .* status \1 -f", said)[1]
    seen = laptop.there(sid, "-f", verb="status")
    assert seen.returncode == 0 and "seed 2: done" in seen.stdout, seen.stdout + seen.stderr
    brought = laptop.there(sid, "-q", verb="fetch")
    assert brought.returncode == 0 and brought.stdout.startswith(sid), brought.stderr
    again = laptop.run()
    assert again.returncode == 0, again.stderr
    assert len(scores(laptop.runs_dir)) == 2 and scores(laptop.runs_dir) == scores(laptop.folder / "elsewhere" / "runs")
    assert [name for name in laptop.controllers() if sid in name] == [f"golf-{sid}-1"]
    local = laptop.run(sid, "-v", "--json", verb="status")
    story = "\n".join(json.loads(local.stdout)["story"])
    assert story.count("is counted") == 2 and story.count("a controller began") == 1


@pytest.mark.chaos
def test_attempts_that_nobody_controls_are_cancelled(make_laptop, cluster):
    """Supervisor and controller killed together: attempts go on, `cancel` from elsewhere ends them within its own
    command, and the same submit runs the rest."""
    laptop = make_laptop(toy_text({"train3": f"hang:{cluster.folder}"}, steps=5))
    before = len(laptop.controllers())
    submit = laptop.start()
    try:
        until(lambda: hanging(laptop), "both hang in training", PATIENCE)
    finally:
        submit.send_signal(signal.SIGKILL)
        submit.communicate()
    for pid in cluster.processes(HEAD):
        if "orchestrator.cluster.control" in command_line(pid):
            os.kill(pid, signal.SIGKILL)
    assert golf_actors(cluster)
    said = laptop.there(verb="cancel")
    assert said.returncode == 0 and "ran without a controller" in said.stderr, said.stderr
    until(lambda: not golf_actors(cluster), "the attempts have ended", 60)
    done = laptop.run()
    assert done.returncode == 0, done.stderr
    assert len(scores(laptop.runs_dir)) == 2 and len(laptop.controllers()) - before == 2


def golf_actors(cluster):
    return [row["name"] for row in cluster.actors() if str(row["name"]).startswith("golf:")]


def hanging(laptop):
    """Whether every attempt of the state folder says so in its log."""
    logs = list((laptop.state / "attempts").glob("[0-9a-f]*/log.txt"))
    return len(logs) == 2 and all("hanging in train3" in log.read_text() for log in logs)
