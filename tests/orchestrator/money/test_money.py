"""Money around real submits: the question, the budget, the canary, what it came to. On a CPU, with a price given."""

import json
import os
import pty
import re
import subprocess

import pytest

from orchestrator.ledger.store import Ledger
from orchestrator.money.budget import read_account
from orchestrator.money.spending import confirm, spent_on
from tests.orchestrator.money.test_cost import cost
from tests.orchestrator.toy import Bench, stop, toy_text
from tests.processes import PATIENCE

PAID = ("--price", "36", "--dead-man-seconds", "100")  # a cent a second: an attempt costs a dollar at most


class TerminalBench(Bench):
    """Submits from a terminal, where somebody types an answer."""

    def answer(self, word, *arguments):
        """What the terminal showed, and the exit code."""
        outer, inner = pty.openpty()
        env = self.environment() | {"TERM": "dumb"}
        process = subprocess.Popen(
            self.command("submit", *arguments),
            stdin=inner,
            stdout=subprocess.DEVNULL,
            stderr=inner,
            cwd=self.folder,
            env=env,
        )
        os.close(inner)
        shown, asked = b"", False
        try:
            while True:
                try:
                    shown += os.read(outer, 1 << 16)
                except OSError:  # the other end is closed
                    break
                if not asked and b"[y/N]" in shown:
                    os.write(outer, word.encode() + b"\n")
                    asked = True
            return shown.decode(), process.wait(timeout=PATIENCE)
        finally:
            os.close(outer)
            process.kill()
            process.wait()


def started(bench):
    """Attempts that began, by seed, in the order in which they did."""
    with Ledger.open(bench.runs_dir) as ledger:
        runs = {json.loads((f / "run.json").read_text())["run_id"]: f for f in bench.attempts()}
        seeds = {run_id: json.loads((f / "run.json").read_text())["seed"] for run_id, f in runs.items()}
        return [seeds[event.run_id] for event in ledger.events(kind="attempt_started")]


def spent(bench):
    with Ledger.open(bench.runs_dir) as ledger:
        return spent_on(ledger, ledger.submissions()[-1])


def test_what_costs_money_is_refused_where_nobody_can_be_asked(make_bench):
    """Without a terminal and without -y: one line with the amounts and the ways out; nothing is made, nothing hangs."""
    bench = make_bench()
    refused = bench.run("--seeds", "1,2", *PAID)
    assert refused.returncode == 2 and not bench.runs_dir.exists()
    assert "error: this costs 2.00 USD, at worst 6.00 USD, and there is no terminal to ask on; -y" in refused.stderr


@pytest.mark.parametrize("word, code", [("", 3), ("yes", 0)])
def test_a_terminal_is_asked(make_bench, word, code):
    """Only a yes goes on; anything else starts nothing."""
    bench = make_bench(kind=TerminalBench)
    shown, returned = bench.answer(word, "--seeds", "1", *PAID)
    assert "This costs 1.00 USD, at worst 3.00 USD. Go on? [y/N]" in shown
    assert returned == code and ("nothing was started" in shown) == (code == 3)
    assert bench.runs_dir.exists() == (code == 0)


def test_no_money_no_question():
    """What is free, and what is done already, asks nobody, terminal or not; -y answers for everything else."""
    assert confirm([cost(hourly=0.0), cost(whole=0)], False, None)
    assert confirm([cost()], True, None)


def test_a_canary_goes_first_and_all_is_accounted_for(make_bench):
    """The second and third seed wait for the first; afterwards the ledger, `status` and --json say what it came to,
    against what was expected, and nothing is reserved any more."""
    bench = make_bench(text=toy_text(pause=0.02))
    done = bench.run("--seeds", "3,1,2", *PAID, "--budget", "9", "-y", "--json")
    assert done.returncode == 0, done.stderr
    assert "[36.00 USD an hour (--price)]" in done.stderr and "3 seeds x 3 attempts x 100 s" in done.stderr
    assert "seed 1: queued · the canary, seed 3, goes first" in done.stderr
    assert started(bench)[0] == 3
    found = spent(bench)
    seconds = [json.loads((f / "result.json").read_text())["worker_seconds"] for f in bench.attempts()]
    assert found.usd == pytest.approx(sum(seconds) / 100) and found.exact and found.reserved_usd == pytest.approx(0)
    assert json.loads(done.stdout)["cost"] == pytest.approx(found.to_dict())
    told = bench.run("-v", verb="status").stdout
    assert re.search(r"seed 3: done · attempt 1 is counted · BPB 1\.1757 · (?:less than )?0\.0\d USD", told)
    assert "9.00 USD are reserved, 3.00 USD expected" in told
    assert re.search(r"seed 2: attempt 1 cost (?:less than )?0\.0\d USD", told)
    assert told.splitlines()[-1] == f"cost: {found.describe()}"


def test_a_budget_refuses_before_anything_is_made(make_bench):
    """Exit code 6, with the numbers and what would fit, told once; a dry run has them in its plan; golf.toml counts;
    --json has them."""
    bench = make_bench()
    (bench.folder / "golf.toml").write_text("budget = 5.5\n")
    refused = bench.run("--seeds", "1,2", *PAID, "-y")
    assert refused.returncode == 6 and not bench.runs_dir.exists()
    assert "5.50 USD of the budget of 5.50 USD are left" in refused.stderr and "--max-attempts 2" in refused.stderr
    assert "spent, 0.00 USD reserved  [golf.toml]" in refused.stderr
    assert refused.stderr.count("6.00 USD at worst (") == 1
    assert "refused      6.00 USD at worst" in bench.run("--seeds", "1,2", *PAID, "--dry-run").stdout
    told = json.loads(bench.run("--seeds", "1,2", *PAID, "--dry-run", "--json").stdout)
    assert (told["cost"]["worst_usd"], told["cost"]["usd_per_hour"], told["cost"]["seeds"]) == (6.0, 36.0, 2)


def test_two_submits_at_once_do_not_share_a_budget(make_bench):
    """One of two that fit only singly runs; the other is refused with exit code 6, and starts nothing."""
    bench = make_bench(text=toy_text(pause=0.1))
    both = [bench.start("--seeds", seed, *PAID, "--budget", "4", "-y") for seed in ("1", "2")]
    try:
        said = [process.communicate(timeout=PATIENCE)[1] for process in both]
    finally:
        for process in both:
            stop(process)
    assert sorted(process.returncode for process in both) == [0, 6]
    assert sum("budget refused: 3.00 USD at worst" in one for one in said) == 1 and len(bench.attempts()) == 1
    with Ledger.open(bench.runs_dir) as ledger:
        found = read_account(ledger)
    assert found.reserved == pytest.approx(0) and 0 < found.spent <= 1


def test_a_run_that_keeps_failing_stops_where_its_money_ends(make_bench):
    """With one attempt paid for, a fault from outside is not tried again: exit code 6, and it is said why."""
    bench = make_bench(text=toy_text({"train2": "kill"}))
    ended = bench.run("--seeds", "1", *PAID, "--max-attempts", "1", "-y")
    assert ended.returncode == 6, ended.stderr
    assert len(bench.attempts()) == 1 and spent(bench).barred
    told = r"seed 1: stopped · attempt 1 ended with rank_killed.*; attempts are used up \(1 of 1\); the same submit"
    assert re.search(told, ended.stderr), ended.stderr


def test_a_canary_over_its_caps_bars_the_others(make_bench):
    """The first seed is too large: the others are not started, and the reason is said; --parallel runs them."""
    bench = make_bench()
    small = bench.folder / "small.toml"
    caps = {"artifact_bytes": 10, "train_seconds": 600.0, "evaluate_seconds": 600.0, "kill_after_seconds": 60.0}
    lines = ['summary = "ten bytes"', "seeds = 1", *(f"{name} = {value}" for name, value in caps.items())]
    small.write_text("\n".join(lines))
    arguments = ("--seeds", "1,2", *PAID, "--policy", str(small), "-y")
    barred = bench.run(*arguments)
    assert barred.returncode == 3 and started(bench) == [1]
    assert "the canary, seed 1, is over: " in barred.stderr and "bytes of 10; --parallel" in barred.stderr
    assert bench.run(*arguments, "--parallel").returncode == 0 and started(bench) == [1, 2]


def test_an_interrupted_submit_gives_its_money_back(make_bench):
    """Ctrl-C voids what ran: its seconds are paid, the rest is free at once, and the same submit reserves anew."""
    bench = make_bench(text=toy_text({"train3": "hang"}))
    process = bench.start("--seeds", "1", *PAID, "--budget", "3", "-y")
    try:
        bench.reaches(1, '"train"')
        process.send_signal(2)
        process.communicate(timeout=PATIENCE)
    finally:
        stop(process)
    with Ledger.open(bench.runs_dir) as ledger:
        found = read_account(ledger)
    assert found.reserved == pytest.approx(0) and 0 < found.spent < 1


def test_what_a_killed_driver_had_reserved_is_given_back_by_cancel(make_bench):
    """SIGKILL leaves the worst case reserved, since nobody knows what will come; `cancel` says that nothing will. What
    ran is paid by its worker's seconds."""
    bench = make_bench(text=toy_text({"train3": "hang"}))
    process = bench.start("--seeds", "1", *PAID, "-y")
    try:
        bench.reaches(1, '"train"')
    finally:
        stop(process)
    bench.nobody_is_left()
    assert spent(bench).reserved_usd == pytest.approx(3)
    given = bench.run(verb="cancel")
    assert "USD that were reserved are given back" in given.stderr and given.returncode == 0
    assert spent(bench).reserved_usd == pytest.approx(0) and 0 < spent(bench).usd < 1 and spent(bench).exact
