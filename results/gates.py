"""Gates: what sealed evidence says of a submission, held against the policy that it was registered under.

Caps are inclusive, and the largest seed decides. Unknown is never pass: a seed without a counted attempt, or a value
that nobody measured, leaves a gate unknown unless another seed already fails it. No gate passes on simulated hardware,
nor for a diagnostic run. The gates have the names that `verify` gives them for the folders of others.
"""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from golf_core.policy import load_policy, policy_names
from golf_core.rundir import RunDirError
from results.dataset import differing_seeds, has_fineweb_bytes, has_fineweb_size
from results.rows import CHECKED, Row
from results.spec import SCRIPT

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
LEGAL = ("TRACK_A", "SCORE_FIRST_OK")  # the verdicts that pass: nothing was learned, or only what was scored
NAMES = (
    "artifact",
    "train",
    "training data",
    "evaluate: stage",
    "evaluate: sum",
    "hardware",
    "seeds",
    "same config",
    "score first",
    "byte accounting",
    "timing",
)  # of every policy; then "significance" where it has a claim rule, and "diagnostic_only" where a run is that
# The logs of others stop a step after the cap: 45 % of the race's merged ones at 600.0xx s, the largest by 0.137 s.
OVERSHOOT_S, OVERSHOOT = 0.15, "last-step overshoot"
SAME_SCORE = 1e-6  # relative, between a BPB and what its loss, tokens and bytes give


@dataclass(frozen=True, kw_only=True)
class Gate:
    name: str
    unit: str
    value: float | str | None  # of the largest seed
    limit: float | str
    margin: float | None  # limit - value: what is left
    seed: int | None  # where the value is from
    verdict: str
    note: str | None = None  # what a reader needs beside the numbers

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


def check_gates(
    rows: Sequence[Row], policy: Mapping[str, typing.Any], target_class: str, more: Sequence[Gate] = ()
) -> list[Gate]:
    """Those of NAMES, then `more`; diagnostic_only where it is one. Raises RunDirError for a bad policy."""
    gates = [
        _cap_gate(rows, policy, "artifact", "artifact_bytes"),
        *_time_gates(rows, policy),
        _hardware_gate(rows, policy, target_class),
        _seeds_gate(rows, limit_of(policy, "seeds")),
        _config_gate(rows),
        _score_first_gate(rows),
        _bytes_gate(rows, policy),
        _timing_gate(rows),
        *more,
    ]
    diagnostic = any(row.diagnostic_only for row in rows)
    if diagnostic:
        gates.append(_diagnostic_gate(rows))
    if diagnostic or target_class == "simulated":
        return [replace(gate, verdict=FAIL if gate.verdict == FAIL else UNKNOWN) for gate in gates]
    return gates


def limit_of(policy: Mapping[str, typing.Any], key: str) -> float:
    """A number above 0 of a policy as it was registered. Raises RunDirError."""
    limit = policy.get(key)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < 1e18:
        raise RunDirError(f"policy {policy.get('name')!r:.80}: {key} is {limit!r:.80}, not a number above 0")
    return limit


def _complete(rows: Sequence[Row], verdict: str = PASS) -> str:
    """The verdict, where every registered seed is counted."""
    return verdict if rows and all(row.counted for row in rows) else UNKNOWN


def _largest(values: Mapping[int, float]) -> int | None:
    return max(values, key=lambda seed: values[seed], default=None)


def _cap_gate(
    rows: Sequence[Row],
    policy: Mapping[str, typing.Any],
    name: str,
    column: str,
    cap: str = "",
    note: str | None = None,
) -> Gate:
    limit = limit_of(policy, cap or column)
    known = {row.seed: getattr(row, column) for row in rows if getattr(row, column) is not None}
    seed = _largest(known)
    value = None if seed is None else known[seed]
    complete = PASS if len(known) == len(rows) else UNKNOWN
    verdict = FAIL if value is not None and value > limit else complete
    unit = "B" if column == "artifact_bytes" else "s"
    margin = None if value is None else limit - value
    return Gate(name=name, unit=unit, value=value, limit=limit, margin=margin, seed=seed, verdict=verdict, note=note)


def _time_gates(rows: Sequence[Row], policy: Mapping[str, typing.Any]) -> list[Gate]:
    """Training, what reads training data, the longest evaluation stage and all of them.

    A script tells its times in its log, by its own clock. Training is held against the cap with a named tolerance; the
    evaluation lies between what the log tells of its final stage and all that the worker timed beside the training.
    """
    if rows[0].source == SCRIPT:
        data = _cap_gate(rows, policy, "training data", "training_data_seconds", "train_seconds")
        summed = _log_evaluate_gate(rows, policy)
        return [
            _log_train_gate(rows, policy),
            replace(data, note="a script's log does not show what it reads after training"),
            _log_stage_gate(rows, policy, summed),
            summed,
        ]
    told = "training and calibration on training data, as the worker stamped them"
    return [
        _cap_gate(rows, policy, "train", "train_seconds"),
        _cap_gate(rows, policy, "training data", "training_data_seconds", "train_seconds", told),
        _cap_gate(rows, policy, "evaluate: stage", "evaluate_longest_seconds", "evaluate_seconds"),
        _cap_gate(rows, policy, "evaluate: sum", "evaluate_seconds"),
    ]


def _log_train_gate(rows: Sequence[Row], policy: Mapping[str, typing.Any]) -> Gate:
    """By the clock of the script, as its log tells it."""
    strict, limit = _cap_gate(rows, policy, "train", "train_seconds"), limit_of(policy, "train_seconds")
    note = f"by the script's own clock, read in its log; tolerance {OVERSHOOT_S:g} s ({OVERSHOOT})"
    verdict = strict.verdict
    if verdict == FAIL and isinstance(strict.value, float) and strict.value <= limit + OVERSHOOT_S:
        verdict = PASS if all(row.train_seconds is not None for row in rows) else UNKNOWN
    return replace(strict, verdict=verdict, note=note if strict.value is not None else "no log tells it")


def _log_evaluate_gate(rows: Sequence[Row], policy: Mapping[str, typing.Any]) -> Gate:
    """What the log tells is of the final stage alone: at least that. What the worker timed beside the training holds
    start and serialization too: at most that. Where the least is more than the most, one of the clocks is wrong."""
    limit = limit_of(policy, "evaluate_seconds")
    least = {row.seed: row.evaluate_seconds_bundle for row in rows if row.evaluate_seconds_bundle is not None}
    most = {row.seed: row.evaluate_seconds_worker for row in rows if row.evaluate_seconds_worker is not None}
    told, bound = _largest(least), _largest(most)
    wrong = next((seed for seed, value in least.items() if value > most.get(seed, math.inf)), None)
    seed, value, verdict = None, None, UNKNOWN
    if wrong is not None:
        seed = wrong
        note = (
            f"a contradiction: the log tells {least[wrong]:g} s of the final stage alone, and the whole run less the "
            f"training by the log leaves {most[wrong]:g} s for it; nothing follows from such times"
        )
    elif told is not None and least[told] > limit:
        seed, value, verdict, note = told, least[told], FAIL, "the final stage alone, by the script's log"
    elif bound is not None and most[bound] <= limit and len(most) == len(rows):
        seed, value, verdict = bound, most[bound], PASS
        note = "at most: the whole run by the worker's clock, less the training that the log tells"
    else:
        note = "no log tells it" if told is None else f"at least {least[told]:.1f} s, the final stage by the log"
        note += "" if bound is None else f"; at most {most[bound]:.1f} s, the whole run less the training by the log"
    margin = None if value is None else limit - value
    return Gate(
        name="evaluate: sum",
        unit="s",
        value=value,
        limit=limit,
        margin=margin,
        seed=seed,
        verdict=verdict,
        note=note,
    )


def _log_stage_gate(rows: Sequence[Row], policy: Mapping[str, typing.Any], summed: Gate) -> Gate:
    """The final stage by the log; that no other took longer, only a bound on all of them shows."""
    found = _cap_gate(rows, policy, "evaluate: stage", "evaluate_seconds_bundle", "evaluate_seconds")
    note = "no log tells it" if found.value is None else "the final stage, by the script's log"
    if summed.verdict == PASS:
        return replace(found, verdict=PASS, note=f"{note}; all of them together are under the cap")
    verdict = FAIL if summed.verdict == FAIL else UNKNOWN
    return replace(found, verdict=verdict, note=note)


def _said(
    name: str, value: str | None, limit: str, verdict: str, note: str | None = None, seed: int | None = None
) -> Gate:
    """A gate in words."""
    return Gate(name=name, unit="", value=value, limit=limit, margin=None, seed=seed, verdict=verdict, note=note)


def _seeds_gate(rows: Sequence[Row], limit: float) -> Gate:
    """Counted seeds against what a claim needs. Registered seeds that are missing could still come."""
    counted = sum(row.counted for row in rows)
    verdict = PASS if counted >= limit and counted == len(rows) else UNKNOWN if len(rows) >= limit else FAIL
    return Gate(
        name="seeds", unit="", value=counted, limit=int(limit), margin=counted - limit, seed=None, verdict=verdict
    )


def _hardware_gate(rows: Sequence[Row], policy: Mapping[str, typing.Any], target_class: str) -> Gate:
    """What was asked for, and what the worker of every counted seed saw: both must be what the policy names."""
    gpu, gpus = policy.get("gpu"), policy.get("gpus")
    limit = "any" if gpu is None else f"{gpus}x{gpu}"
    row = rows[0]
    asked = f"{row.gpus}x{row.gpu}" if row.device == "cuda" else row.device
    if gpu is None:
        return _said("hardware", asked, limit, _complete(rows))
    if target_class != "record" or (row.gpu, row.gpus) != (gpu, gpus):
        return _said("hardware", asked, limit, FAIL, "it was submitted for this")
    counted = [row for row in rows if row.counted]
    for row in counted:
        if row.gpus_seen and (row.gpus_seen, row.hardware) != (gpus, f"{gpus}x {gpu}"):
            note = f"{asked} was asked for, and the worker saw something else: env.json of {row.attempt_id}"
            return _said("hardware", row.hardware, limit, FAIL, note, row.seed)
    if silent := [row for row in counted if not row.gpus_seen]:
        note = f"{asked} was asked for; env.json of {silent[0].attempt_id} tells of no GPU that the worker saw"
        return _said("hardware", None, limit, UNKNOWN, note, silent[0].seed)
    if doubtful := [row for row in counted if row.hardware_check not in (None, PASS)]:
        verdict = FAIL if doubtful[0].hardware_check == FAIL else UNKNOWN
        note = f"the worker's check of its GPUs ended with {doubtful[0].hardware_check!r:.20}: hardware.json of "
        return _said("hardware", asked, limit, verdict, note + str(doubtful[0].attempt_id), doubtful[0].seed)
    if not counted:
        return _said("hardware", None, limit, UNKNOWN, f"{asked} was asked for; no worker has told yet what it saw")
    return _said("hardware", asked, limit, _complete(rows))


def _config_gate(rows: Sequence[Row]) -> Gate:
    """One bundle, and of a script one environment: the run ids hold both. Other parameters refute it."""
    limit = "one for all seeds"
    counted = [row for row in rows if row.counted]
    for column, what in (("bundle_sha256", "bundles"), ("script_env", "environments"), ("parameters", "parameters")):
        told = {getattr(row, column): row.seed for row in counted if getattr(row, column) is not None}
        if len(told) > 1:
            shown = ", ".join(f"seed {seed}: {str(value)[:40]}" for value, seed in told.items())
            return _said("same config", "differs", limit, FAIL, f"the {what} differ: {shown}")
    value = rows[0].bundle_sha256[:12] if counted else None
    return _said("same config", value, limit, _complete(rows), "SHA-256 of the file that every counted attempt ran")


def _score_first_gate(rows: Sequence[Row]) -> Gate:
    """What the events of the score ledgers show; another evaluator's scores leave it unknown, and so does a ledger that
    cannot be checked."""
    name, limit = "score first", "each token scored before learned"
    told = {row.seed: row.legality for row in rows if row.legality is not None}
    illegal = next((seed for seed, verdict in told.items() if verdict not in LEGAL), None)
    learned = max(told, key=lambda seed: told[seed] == LEGAL[-1], default=None)
    seed = learned if illegal is None else illegal
    value = None if seed is None else told[seed]
    if illegal is not None:
        return _said(name, value, limit, FAIL, seed=seed)
    if silent := [row for row in rows if row.seed in told and row.ledger not in (None, CHECKED)]:
        return _said(name, value, limit, UNKNOWN, f"of seed {silent[0].seed}: {silent[0].ledger}", silent[0].seed)
    shown = bool(rows) and all(row.ledger == CHECKED for row in rows)
    note = "derived again from the events of every seed's score ledger" if shown else None
    return _said(name, value, limit, PASS if len(told) == len(rows) else UNKNOWN, note, seed)


def is_of_race(policy: Mapping[str, typing.Any]) -> bool:
    """Whether it is one of the race's own, for which scores must be of FineWeb."""
    name = policy.get("name")
    return name in policy_names() and load_policy(str(name)).claim is not None


def _bytes_gate(rows: Sequence[Row], policy: Mapping[str, typing.Any]) -> Gate:
    """Loss, targets and bytes give the BPB of each seed, all seeds were scored on one text, and under a policy of the
    race that text has the size of the challenge's split."""
    name, of_race = "byte accounting", is_of_race(policy)
    limit = "all of FineWeb's validation split" if of_race else "one text for all seeds"
    counted = [row for row in rows if row.counted]
    if different := differing_seeds(counted):
        return _said(name, "differs", limit, FAIL, different)
    for row in counted:
        loss, bpb, tokens, text = row.val_loss, row.val_bpb, row.val_tokens, row.val_bytes
        if loss is None or bpb is None or not tokens or not text:
            note = f"the evidence of seed {row.seed} does not tell loss, targets and bytes beside its BPB"
            return _said(name, None, limit, UNKNOWN, note, row.seed)
        if not math.isclose(bpb, derived := loss / math.log(2) * tokens / text, rel_tol=SAME_SCORE):
            note = f"val_bpb is {bpb}, but loss, targets and bytes give {derived}"
            return _said(name, "differs", limit, FAIL, note, row.seed)
    if not counted or counted[0].val_bytes is None:
        return _said(name, None, limit, UNKNOWN)
    targets, size = counted[0].val_tokens, counted[0].val_bytes
    value = f"{size:,} B, {targets:,} targets"
    if of_race and not has_fineweb_bytes(size):
        return _said(name, value, limit, FAIL, "this is not all of the challenge's validation split, or other text")
    if of_race and not has_fineweb_size(targets, size):
        return _said(name, value, limit, UNKNOWN, "so many targets has no tokenizer of the race that is known here")
    return _said(name, value, limit, _complete(rows))


def _timing_gate(rows: Sequence[Row]) -> Gate:
    """Whether training and evaluation each ran whole. An evaluation that was cut off is started anew, and what it had
    written is taken away: the stamps are of the one that counts."""
    limit = "each stage in one piece"
    told = {row.seed: row.uninterrupted for row in rows if row.counted and row.uninterrupted is not None}
    broken = next((seed for seed, whole in told.items() if not whole), None)
    if broken is not None:
        note = "phases.jsonl has a stage or phase that began more than once, or never ended"
        return _said("timing", "interrupted", limit, FAIL, note, broken)
    if silent := [row.seed for row in rows if row.counted and row.uninterrupted is None]:
        note = "phases.jsonl of its counted attempt does not tell"
        return _said("timing", None, limit, UNKNOWN, note, silent[0])
    again = [str(row.seed) for row in rows if row.counted and (row.evaluations or 1) > 1]
    twice = f"evaluation was cut off and repeated from the sealed artifact: seed {', '.join(again)}" if again else None
    return _said("timing", "in one piece" if told else None, limit, _complete(rows), twice)


def _diagnostic_gate(rows: Sequence[Row]) -> Gate:
    seed = next(row.seed for row in rows if row.diagnostic_only)
    return _said("diagnostic_only", "true", "false", FAIL, seed=seed)
