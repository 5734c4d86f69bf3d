"""The verdict in words: what is claimed, what the gates say of it, and what must be known before believing it."""

from collections.abc import Sequence

from results.dataset import data_warning
from results.gates import FAIL, PASS, UNKNOWN, Gate
from results.report.subject import Subject
from results.stats import mean, t_half_width
from results.tables import DIAGNOSTIC, OF_SCRIPT, SIMULATED, unscored

# A verdict is told by a sign, a word and a colour: each alone is enough.
SIGNS = {PASS: "✓", FAIL: "✕", UNKNOWN: "?"}
WORDS = {PASS: "passes", FAIL: "fails", UNKNOWN: "unknown"}
FINAL = {
    "roundtrip": "a plain evaluation of the quantized weights",
    "sliding": "sliding windows over the quantized weights",
    "ttt": "test-time training that scores before it learns",
}


def claim(subject: Subject) -> str:
    """
    One sentence: the mean, its interval, how it was scored, how many bytes.
    """
    found = subject.found
    if found.diagnostic_only:
        return "Nothing is claimed: this is a diagnostic run."
    if not subject.claimed:
        why = (
            "no log of a counted attempt tells a score"
            if subject.counted
            else "no registered seed has a counted attempt"
        )
        return f"Nothing is claimed yet: {why}."
    scores = [bpb for _, bpb in subject.claimed]
    half = t_half_width(scores)
    spread = "one seed, so no interval" if half is None else f"± {half:.5f}, 95 % t interval, n={len(scores)}"
    missing = len(found.rows) - len(scores)
    of = (
        f" {missing} of {len(found.rows)} registered seeds {'has' if missing == 1 else 'have'} no score."
        if missing
        else ""
    )
    stages = sorted({row.final_stage for row in subject.counted if row.final_stage})
    how = " and ".join(FINAL.get(stage, stage) for stage in stages)
    sizes = [row.artifact_bytes for row in subject.counted if row.artifact_bytes is not None]
    size = f" The largest artifact has {max(sizes):,} bytes." if sizes else ""
    by = f", by {how}" if how else ""
    return f"{mean(scores):.5f} bits per byte ({spread}){by}.{size}{of}"


def judgement(subject: Subject) -> tuple[str, str]:
    """(verdict, sentence) over all gates: the worst of them."""
    gates, policy = subject.found.gates, subject.found.spec.policy_name
    counts = {verdict: sum(gate.verdict == verdict for gate in gates) for verdict in (FAIL, UNKNOWN, PASS)}
    worst = next(verdict for verdict in (FAIL, UNKNOWN, PASS) if counts[verdict] or verdict == PASS)
    told = f"{counts[PASS]} of {len(gates)} gates of policy {policy} pass"
    if counts[FAIL]:
        told += f", {_named(counts[FAIL], 'fails', 'fail')} ({_names(gates, FAIL)})"
    if counts[UNKNOWN]:
        told += f", {_named(counts[UNKNOWN], 'is', 'are')} unknown ({_names(gates, UNKNOWN)}); unknown is never pass"
    return worst, f"{told}."


def _named(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


def _names(gates: Sequence[Gate], verdict: str) -> str:
    return ", ".join(gate.name for gate in gates if gate.verdict == verdict)


def warnings(subject: Subject) -> list[str]:
    """What stands above everything else."""
    spec, rows = subject.found.spec, subject.found.rows
    found = [DIAGNOSTIC] if subject.found.diagnostic_only else []
    found += [SIMULATED] if spec.target_class == "simulated" else []
    found += [] if spec.script is None else [OF_SCRIPT]
    if warning := data_warning(rows):
        found.append(f"The text that was scored: {warning}. A BPB compares only with others of the same text.")
    if not spec.is_record_track:
        found.append(f"Gates that pass under policy {spec.policy_name} on this hardware are no claim for a record.")
    open_seeds = [f"{row.seed} ({row.status})" for row in rows if not row.counted]
    open_seeds += [f"{seed} (its log tells no score)" for seed in unscored(rows)]
    if open_seeds:
        found.append(f"Not finished: seed {', '.join(open_seeds)}. What is missing is in no mean.")
    return found


def cost(subject: Subject) -> str:
    """What the evidence knows of money."""
    rows = [row for row in subject.counted if row.worker_seconds is not None]
    hours = sum(row.worker_seconds or 0.0 for row in rows) / 3600
    machine = f"{hours:.3f} machine hours in {len(rows)} counted attempt{'' if len(rows) == 1 else 's'}"
    if subject.found.spec.target.get("device") == "cpu":
        return f"{machine}, on a CPU. No price is part of the evidence: on a machine of one's own there is none."
    gpus = subject.found.spec.target.get("gpus")
    return f"{machine}, each with {gpus} GPUs. No price is part of the evidence, so no sum is told."
