"""Gates: the caps of the policy that the submission was registered under, held against its largest seed.

Caps are inclusive. Unknown is never pass: a seed without a counted attempt, or a value that nobody measured, leaves
a gate unknown unless another seed already fails it. No gate passes on simulated hardware, nor for a diagnostic run.

A script tells its times in its log, by its own clock. Training is held against the cap with a named tolerance; the
evaluation lies between what the log tells of its final stage and all that the worker timed beside the training.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from golf_core.rundir import RunDirError
from results.rows import Row
from results.spec import SCRIPT

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"
LEGAL = ("TRACK_A", "SCORE_FIRST_OK")  # the verdicts that pass: nothing was learned, or only what was scored
# (column, name, cap in the policy, unit)
CAPS = (
    ("artifact_bytes", "artifact", "artifact_bytes", "B"),
    ("train_seconds", "train", "train_seconds", "s"),
    ("evaluate_seconds", "evaluate", "evaluate_seconds", "s"),
)
# The logs of others stop a step after the cap: 45 % of the race's merged ones at 600.0xx s, the largest by 0.137 s.
OVERSHOOT_S, OVERSHOOT = 0.15, "last-step overshoot"


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
    """Artifact bytes, train and evaluate seconds, number of seeds, hardware, legality, then `more`; diagnostic_only
    where it is one. Raises RunDirError for a bad policy."""
    of_log = {} if rows[0].source != SCRIPT else {"train": _log_train_gate, "evaluate": _log_evaluate_gate}
    gates = [of_log.get(cap[1], _cap_gate)(rows, policy, *cap) for cap in CAPS]
    gates.append(_seeds_gate(rows, limit_of(policy, "seeds")))
    gates.append(_hardware_gate(rows[0], policy, target_class))
    gates += [_legality_gate(rows), *more]
    diagnostic = any(row.diagnostic_only for row in rows)
    if diagnostic:
        gates.append(_diagnostic_gate(rows))
    if diagnostic or target_class == "simulated":
        return [Gate(**{**gate.to_dict(), "verdict": FAIL if gate.verdict == FAIL else UNKNOWN}) for gate in gates]
    return gates


def limit_of(policy: Mapping[str, typing.Any], key: str) -> float:
    """A number above 0 of a policy as it was registered. Raises RunDirError."""
    limit = policy.get(key)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit < 1e18:
        raise RunDirError(f"policy {policy.get('name')!r:.80}: {key} is {limit!r:.80}, not a number above 0")
    return limit


def _cap_gate(
    rows: Sequence[Row], policy: Mapping[str, typing.Any], column: str, name: str, key: str, unit: str
) -> Gate:
    limit = limit_of(policy, key)
    known = {row.seed: getattr(row, column) for row in rows if getattr(row, column) is not None}
    seed = max(known, key=lambda one: known[one], default=None)
    value = None if seed is None else known[seed]
    complete = PASS if len(known) == len(rows) else UNKNOWN
    verdict = FAIL if value is not None and value > limit else complete
    margin = None if value is None else limit - value
    return Gate(name=name, unit=unit, value=value, limit=limit, margin=margin, seed=seed, verdict=verdict)


def _log_train_gate(
    rows: Sequence[Row], policy: Mapping[str, typing.Any], column: str, name: str, key: str, unit: str
) -> Gate:
    """By the clock of the script, as its log tells it."""
    strict, limit = _cap_gate(rows, policy, column, name, key, unit), limit_of(policy, key)
    note = f"by the script's own clock, read in its log; tolerance {OVERSHOOT_S:g} s ({OVERSHOOT})"
    verdict = strict.verdict
    if verdict == FAIL and isinstance(strict.value, float) and strict.value <= limit + OVERSHOOT_S:
        verdict = PASS if all(getattr(row, column) is not None for row in rows) else UNKNOWN
    return replace(strict, verdict=verdict, note=note if strict.value is not None else "no log tells it")


def _log_evaluate_gate(
    rows: Sequence[Row], policy: Mapping[str, typing.Any], column: str, name: str, key: str, unit: str
) -> Gate:
    """What the log tells is of the final stage alone: at least that. What the worker timed beside the training holds
    start and serialization too: at most that."""
    limit = limit_of(policy, key)
    least = {row.seed: row.evaluate_seconds_bundle for row in rows if row.evaluate_seconds_bundle is not None}
    most = {row.seed: row.evaluate_seconds_worker for row in rows if row.evaluate_seconds_worker is not None}
    told, bound = _largest(least), _largest(most)
    seed, value, verdict = None, None, UNKNOWN
    if told is not None and least[told] > limit:
        seed, value, verdict, note = told, least[told], FAIL, "the final stage alone, by the script's log"
    elif bound is not None and most[bound] <= limit and len(most) == len(rows):
        seed, value, verdict = bound, most[bound], PASS
        note = "at most: the whole run by the worker's clock, less the training that the log tells"
    else:
        note = "no log tells it" if told is None else f"at least {least[told]:.1f} s, the final stage by the log"
        note += "" if bound is None else f"; at most {most[bound]:.1f} s, the whole run less the training by the log"
    margin = None if value is None else limit - value
    return Gate(name=name, unit=unit, value=value, limit=limit, margin=margin, seed=seed, verdict=verdict, note=note)


def _largest(times: Mapping[int, float]) -> int | None:
    return max(times, key=lambda seed: times[seed], default=None)


def _seeds_gate(rows: Sequence[Row], limit: float) -> Gate:
    """Counted seeds against what a claim needs. Registered seeds that are missing could still come."""
    counted = sum(row.counted for row in rows)
    verdict = PASS if counted >= limit and counted == len(rows) else UNKNOWN if len(rows) >= limit else FAIL
    return Gate(
        name="seeds", unit="", value=counted, limit=int(limit), margin=counted - limit, seed=None, verdict=verdict
    )


def _hardware_gate(row: Row, policy: Mapping[str, typing.Any], target_class: str) -> Gate:
    gpu, gpus = policy.get("gpu"), policy.get("gpus")
    asked = "any" if gpu is None else f"{gpus}x{gpu}"
    value = f"{row.gpus}x{row.gpu}" if row.device == "cuda" else row.device
    met = gpu is None or (target_class == "record" and (row.gpu, row.gpus) == (gpu, gpus))
    return Gate(
        name="hardware", unit="", value=value, limit=asked, margin=None, seed=None, verdict=PASS if met else FAIL
    )


def _legality_gate(rows: Sequence[Row]) -> Gate:
    """What the score ledgers of the evaluations say of themselves; another evaluator's scores leave it unknown."""
    told = {row.seed: row.legality for row in rows if row.legality is not None}
    illegal = next((seed for seed, verdict in told.items() if verdict not in LEGAL), None)
    learned = max(told, key=lambda seed: told[seed] == LEGAL[-1], default=None)
    seed = learned if illegal is None else illegal
    value = None if seed is None else told[seed]
    complete = PASS if len(told) == len(rows) else UNKNOWN
    verdict = complete if illegal is None else FAIL
    return Gate(name="legality", unit="", value=value, limit="score first", margin=None, seed=seed, verdict=verdict)


def _diagnostic_gate(rows: Sequence[Row]) -> Gate:
    seed = next(row.seed for row in rows if row.diagnostic_only)
    return Gate(name="diagnostic_only", unit="", value="true", limit="false", margin=None, seed=seed, verdict=FAIL)
