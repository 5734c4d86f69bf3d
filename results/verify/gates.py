"""The gates of a policy, judged by the logs and files of a folder alone. What these cannot tell is unknown.

Limits are inclusive. The logs of others stop a step after the cap: that much is tolerated, under its name; those of
our own worker have no tolerance.
"""

import os.path
from collections.abc import Mapping

from golf_core.frontier import SAME_RATIO, frontier_names, load_frontier
from golf_core.rundir import BUNDLE
from results.gates import Gate
from results.verify.case import Case, Check
from results.verify.clocks import evaluation, train_seconds, training_data
from results.verify.finding import FAIL, PASS, UNKNOWN
from results.verify.logtext import LogText
from results.verify.words import BPB

BYTES_PER_TOKEN = load_frontier(frontier_names()[-1]).ratios
OTHER_CODE = (".py", ".c", ".cc", ".cpp", ".cu", ".h", ".so", ".sh")


def gates_of(case: Case) -> list[Check]:
    checks = [artifact(case), train_seconds(case), training_data(case), *evaluation(case), hardware(case), seeds(case)]
    return [*checks, same_config(case), score_first(case), byte_accounting(case), timing(case)]


def artifact(case: Case) -> Check:
    """Of each seed its log's total, or its log's model with the code file of the folder, whichever is larger; of these
    the largest. It is not known where a seed's parts are not: the code that is here may be larger than the log's."""
    limit = case.policy["artifact_bytes"]
    name, asked = "artifact", f"{limit:,} B"
    missing = case.missing("artifact_bytes")
    if not missing and (whole := [run for run in case.runs.values() if "model_bytes" not in run.values]):
        missing = f"{whole[0].place}: the log tells no bytes of code apart, and the code that is here may be larger"
    shipped = case.folder.files[BUNDLE].size if case.folder.has(BUNDLE) else None
    if shipped is None:
        missing = missing or f"there is no {BUNDLE} in the folder: its bytes cannot be counted"
    sizes = {
        seed: max(run.values["artifact_bytes"], run.values.get("model_bytes", 0) + (shipped or 0))
        for seed, run in case.runs.items()
        if "artifact_bytes" in run.values
    }
    if not sizes:
        return Check(name=name, value="", limit=asked, verdict=UNKNOWN, why=missing)
    seed = max(sizes, key=lambda one: sizes[one])
    value, run, why = sizes[seed], case.runs[seed], ""
    if shipped is not None and (logged := run.values.get("code_bytes")) not in (None, shipped):
        why = f"the log counts {logged:,.0f} B of code, {BUNDLE} has {shipped:,} B: larger taken"
    side = sum(
        file.size
        for file in case.folder.files.values()
        if file.name != BUNDLE and os.path.splitext(file.name)[1] in OTHER_CODE
    )
    verdict = FAIL if value > limit else UNKNOWN if missing else PASS
    if verdict == PASS and value + side > limit:
        verdict, why = UNKNOWN, f"with the other code files ({side:,} B) it is over; whether they count is not ruled"
    return Check(
        name=name,
        value=f"{value:,.0f} B",
        limit=asked,
        margin=f"{limit - value:,.0f} B",
        seed=seed,
        source=run.source("artifact_bytes"),
        verdict=verdict,
        why=missing if verdict == UNKNOWN and missing else why,
    )


def hardware(case: Case) -> Check:
    gpu, gpus = case.policy.get("gpu"), case.policy.get("gpus")
    asked = "any" if gpu is None else f"{gpus}x{gpu}"
    shown = sorted({f"{run.gpus or '?'}x{run.gpu or '?'}" for run in case.runs.values()})
    value = ", ".join(shown)
    if gpu is None:
        return Check(name="hardware", value=value, limit=asked, verdict=PASS)
    for seed, run in case.runs.items():
        wrong = (run.gpu is not None and run.gpu != gpu) or (run.gpus is not None and run.gpus != gpus)
        if wrong:
            why = f"{run.gpus or '?'}x{run.gpu or '?'} is not what the policy asks for"
            source = run.source("gpu" if run.gpu is not None and run.gpu != gpu else "world_size")
            return Check(name="hardware", value=value, limit=asked, seed=seed, source=source, verdict=FAIL, why=why)
    silent = [run for run in case.runs.values() if run.gpu is None or run.gpus is None]
    why = case.incomplete or (silent[0].why("gpu" if silent[0].gpu is None else "world_size") if silent else "")
    source = next((run.source("gpu") for run in case.runs.values()), "")
    return Check(name="hardware", value=value, limit=asked, source=source, verdict=UNKNOWN if why else PASS, why=why)


def seeds(case: Case) -> Check:
    """Enough seeds with runs of their own; and no run here of a seed that nobody tells of."""
    limit = int(case.policy["seeds"])
    count = len(case.runs)
    told = sorted({run.seed for run in case.assigned.others if run.seed is not None} - set(case.seeds))
    why = case.incomplete
    if len(case.seeds) < limit:
        verdict, why = FAIL, f"{len(case.seeds)} claimed; the policy asks for {limit}"
    elif case.assigned.lies:
        verdict = FAIL
    elif why:
        verdict = UNKNOWN
    elif told:
        verdict, why = UNKNOWN, f"logs of seeds {', '.join(map(str, told))} are here and not claimed: best of more?"
    else:
        verdict, why = PASS, "that every started seed is told, no folder can show"
    return Check(
        name="seeds", value=str(count), limit=f"at least {limit}", margin=f"{count - limit}", verdict=verdict, why=why
    )


def same_config(case: Case) -> Check:
    """Different code, parameters, or printed settings refute it; only settings that every log prints show it."""
    name, asked = "same config", "one for all seeds"
    for figure, word in (("model_params", "parameters"), ("code_bytes", "bytes of code")):
        values = {run.values[figure] for run in case.runs.values() if figure in run.values}
        if len(values) > 1:
            told = " / ".join(f"{value:,.0f}" for value in sorted(values))
            return Check(name=name, value="differs", limit=asked, verdict=FAIL, why=f"{word} differ: {told}")
    texts = [case.texts.get(run.file, LogText()) for run in case.runs.values() if run.runs == 1]
    settings = [text.settings for text in texts if text.settings and text.blocks == 1]
    configs = [text.configs for text in texts if text.configs]
    if len(hashes := sorted({one for stated in configs for one in stated})) > 1:
        why = f"config_sha256 differs: {' / '.join(one[:12] for one in hashes[:4])}"
        return Check(name=name, value="differs", limit=asked, verdict=FAIL, why=why)
    if settings and (keys := sorted(_different(settings))):
        told = "; ".join(
            f"{key}: {' / '.join(sorted({one.get(key, 'absent') for one in settings}))}" for key in keys[:3]
        )
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        return Check(name=name, value="differs", limit=asked, verdict=FAIL, why=f"settings differ: {told}{more}")
    if case.incomplete:
        return Check(name=name, value="", limit=asked, verdict=UNKNOWN, why=case.incomplete)
    if len(case.runs) == 1:
        return Check(name=name, value="one seed", limit=asked, verdict=PASS)
    if len(configs) == len(case.runs):
        why = f"every log states config_sha256 {next(iter(configs[0]))[:12]}; code and parameters are equal"
        return Check(name=name, value="equal", limit=asked, verdict=PASS, why=why)
    if len(settings) == len(case.runs):
        equal = f"{len(settings[0])} printed settings"
        return Check(name=name, value="equal", limit=asked, verdict=PASS, why=f"{equal}, code and parameters are equal")
    why = "the logs print no list of settings to compare; code and parameters do not differ"
    return Check(name=name, value="", limit=asked, verdict=UNKNOWN, why=why)


def _different(settings: list[dict[str, str]]) -> set[str]:
    keys = {key for one in settings for key in one}
    return {key for key in keys if len({one.get(key) for one in settings}) > 1}


def score_first(case: Case) -> Check:
    why = "a log does not show in which order tokens were scored and learned; the ledger of a sealed attempt does"
    return Check(name="score first", value="", limit="each token scored before learned", verdict=UNKNOWN, why=why)


def byte_accounting(case: Case) -> Check:
    """Loss over BPB gives the bytes a token: one that no tokenizer of the race has is wrong or unknown; one that fits
    does not show that all of the text was scored."""
    name, asked = "byte accounting", "a known tokenizer's"
    ratios = {seed: ratio for seed, run in case.runs.items() if (ratio := run.bytes_per_token) is not None}
    if not ratios:
        why = case.incomplete or "the logs give no loss beside the BPB"
        return Check(name=name, value="", limit=asked, verdict=UNKNOWN, why=why)
    seed = next(iter(ratios))
    low, high = min(ratios.values()), max(ratios.values())
    value = f"{ratios[seed]:.4f} B/token"
    source = case.runs[seed].source(BPB)
    if high - low > SAME_RATIO * low:
        why = f"the seeds differ: {low:.4f} to {high:.4f} bytes a token on the same text"
        return Check(name=name, value=value, limit=asked, source=source, verdict=FAIL, why=why)
    if (known := known_tokenizer(ratios[seed])) is not None:
        why = f"fits {known}; that all of the text was scored, no log shows"
    else:
        why = "no tokenizer of the race has this: another tokenizer, or bytes counted wrongly"
    return Check(name=name, value=value, limit=asked, source=source, verdict=UNKNOWN, why=why)


def known_tokenizer(ratio: float) -> str | None:
    """The tokenizer of the race that has this many bytes of text a token."""
    near = {name: abs(ratio / known - 1) for name, known in BYTES_PER_TOKEN.items()}
    best = min(near, key=lambda name: near[name])
    return best if near[best] <= SAME_RATIO else None


def timing(case: Case) -> Check:
    why = "a log does not show whether the run was interrupted or its clock stopped"
    return Check(name="timing", value="", limit="one run, never stopped", verdict=UNKNOWN, why=why)


def of_sealed(gates: list[Gate], sources: Mapping[int, str]) -> list[Check]:
    """The gates of a submission of ours, as judged on its sealed attempts."""
    found = []
    for gate in gates:
        value, limit, margin = (_amount(one, gate.unit) for one in (gate.value, gate.limit, gate.margin))
        source = sources.get(gate.seed, "") if gate.seed is not None else ""
        why = gate.note or ("" if gate.verdict != UNKNOWN else "the sealed evidence does not tell it")
        found.append(
            Check(
                name=gate.name,
                value=value,
                limit=limit,
                margin=margin,
                seed=gate.seed,
                source=source,
                verdict=gate.verdict,
                why=why,
            )
        )
    return found


def _amount(value: float | str | None, unit: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if unit == "p":
        return f"p = {value:.4g}"
    return f"{value:.3f} s" if unit == "s" else f"{value:,.0f} {unit}".rstrip()
