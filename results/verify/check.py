"""The check of a submission folder, ours or anybody's: each claim derived again, each gate judged."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace

from golf_core.frontier import SAME_RATIO
from golf_core.rundir import BUNDLE
from results.audit.gates import unmade_gates
from results.untrusted import Folder, Refused, plain
from results.verify.assign import Assigned, assign, narrowed, seed_findings
from results.verify.case import Case, Check
from results.verify.claim import Claim
from results.verify.clocks import all_evaluations
from results.verify.document import MAX_SEEDS, Claims, claims_of_document
from results.verify.finding import FAIL, PASS, UNKNOWN, Finding
from results.verify.gates import BYTES_PER_TOKEN, gates_of, of_sealed
from results.verify.judge import LOOSE, judge
from results.verify.logtext import LogText, log_text, places_of
from results.verify.readme import claims_of_readme
from results.verify.rival import Asked
from results.verify.seen import Seen, logs_of, seen_in_logs
from results.verify.significance import both_rules, significance
from results.verify.words import BPB, MEAN, SCORES

MAX_CLAIMS = 2000
README, SUBMISSION = "README.md", "submission.json"
GENERATORS = ("golf-orchestrator",)
# A flag of `compliance` holds where these gates pass.
FLAGS = {
    "artifact_under_16mb": ("artifact",),
    "artifact_under_16_mb": ("artifact",),
    "train_under_600s": ("train",),
    "training_under_600s": ("train",),
    "eval_under_600s": ("evaluate: stage", "evaluate: sum"),
    "three_seeds": ("seeds",),
    "score_first_ttt": ("score first",),
}


@dataclass(frozen=True)
class Checked:
    folder: str
    policy: str
    basis: str  # what the derived values are from, in words
    findings: list[Finding]
    gates: list[Check]
    notes: list[str]

    def count(self, verdict: str) -> int:
        return [*(one.verdict for one in self.findings), *(one.verdict for one in self.gates)].count(verdict)

    @property
    def passed(self) -> bool:
        """Nothing contradicted and nothing unknown."""
        return self.count(PASS) == len(self.findings) + len(self.gates) and bool(self.findings)

    @property
    def nothing_failed(self) -> bool:
        """Nothing contradicted; and something is claimed at all."""
        return self.count(FAIL) == 0 and bool(self.findings)

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            "schema_version": 1,
            "folder": self.folder,
            "policy": self.policy,
            "basis": self.basis,
            "passed": self.passed,
            "counts": {verdict: self.count(verdict) for verdict in (FAIL, UNKNOWN, PASS)},
            "claims": [one.to_dict() for one in self.findings],
            "gates": [one.to_dict() for one in self.gates],
            "notes": self.notes,
        }


@dataclass
class Read:
    """What a folder claims, before anything is judged."""

    folder: Folder
    facts: dict[str, typing.Any]
    claims: list[Claim]
    document: Claims
    counts: list[tuple[str, int]]  # `N-seed` of the headline
    seeds: list[int]
    seeds_place: str
    findings: list[Finding]
    readme_others: list[str]  # numbers that may be scores, with their lines

    @property
    def ours(self) -> bool:
        return self.facts.get("generated_by") in GENERATORS


def read_claims(folder: Folder) -> Read:
    """Raises Refused for a folder that holds neither a submission.json nor a README.md."""
    name = next((one for one in (SUBMISSION, *_other_documents(folder)) if folder.has(one)), None)
    if name is None and not folder.has(README):
        raise Refused(f"{plain(folder.path)} holds neither {SUBMISSION} nor {README}: it claims nothing")
    facts = folder.document(name) if name else {}
    document = claims_of_document(facts, name) if name else Claims()
    readme, counts = claims_of_readme(folder.text(README), README) if folder.has(README) else (Claims(), [])
    findings = [Finding(place, says, "", "", FAIL, why) for place, says, why in document.wrong]
    if name is None:
        findings.append(Finding(SUBMISSION, "", "", "", UNKNOWN, "there is none: only the README claims anything"))
    elif not any(claim.metric == BPB and claim.over == MEAN for claim in document.claims):
        findings.append(Finding(f"{name}: val_bpb", "", "", "", UNKNOWN, "there is no val_bpb: no score is claimed"))
    seeds, place = document.seeds, document.seeds_place
    if not seeds:
        seeds, place = readme.seeds, readme.seeds_place
    if more := [seed for seed in readme.seeds or [] if seed not in (seeds or [])]:
        told = ", ".join(map(str, more[:10]))
        findings.append(Finding(readme.seeds_place, f"seeds {told}", "", "", UNKNOWN, f"not listed in {place}"))
    findings += [Finding(README, "", "", "", UNKNOWN, why) for why in readme.unread]
    claims = [*document.claims, *readme.claims]
    if len(claims) > MAX_CLAIMS or len({claim.seed for claim in claims}) > MAX_SEEDS:
        raise Refused(
            f"{plain(folder.path)} claims {len(claims):,} numbers; no submission has more than {MAX_CLAIMS:,}"
        )
    return Read(folder, facts, claims, document, counts, seeds or [], place, findings, readme.other)


def _other_documents(folder: Folder) -> list[str]:
    return sorted(one for one in folder.files if one.startswith("submission") and one.endswith(".json"))


def check_logs(folder: Folder, policy: Mapping[str, typing.Any], asked: Asked | None = None) -> Checked:
    """Everything derived from the logs and files of the folder. `asked`: the row to hold it against."""
    read = read_claims(folder)
    seen = seen_in_logs(folder)
    texts = {name: log_text(folder, name) for name in {run.file for run in seen}}
    for run in seen:
        add_text(run, texts[run.file])
    findings, assigned, seeds = judged(read, seen)
    case = Case(
        folder=folder,
        policy=policy,
        seeds=seeds,
        assigned=assigned,
        texts=texts,
        ours=read.ours,
        facts=read.facts,
        asked=asked or Asked(),
    )
    gates = [*gates_of(case), *significance(case), *of_sealed(unmade_gates(policy), {})]
    findings = _placed(findings, read.claims, folder)
    findings += _flags(read, gates, policy)
    logs = len(logs_of(folder))
    notes = [*_notes(assigned, read), *both_rules(case)]
    basis = f"{logs} log{'' if logs == 1 else 's'} and the files of the folder"
    return Checked(plain(folder.path), str(policy.get("name", "")), basis, findings, gates, notes)


def add_text(run: Seen, text: LogText) -> None:
    """The time of all evaluations in a log, the losses of its steps and the hardware it states, where it is of one
    run."""
    found = all_evaluations(run, text)
    if found is not None and text.evaluations and found[0] == found[1]:
        run.values["eval_sum_s"] = found[0]
        line = text.evaluations[-1].line if text.eval_sum is None else text.eval_sum.line
        run.sources["eval_sum_s"] = f"{run.file}:{line}"
        run.steps["eval_sum_s"] = 0.001 * len(text.evaluations)
    if run.runs == 1:
        run.losses = text.losses
    other = [one for one in text.hardware if one != run.gpu]
    if run.runs == 1 and other:
        run.gpu = other[0]
        run.sources["gpu"] = f"{run.file}:{text.hardware[other[0]]}"


def judged(read: Read, seen: list[Seen]) -> tuple[list[Finding], Assigned, list[int]]:
    """The findings on all claims, whatever the evidence is; who stands behind which seed; the seeds judged."""
    seeds, place = read.seeds, read.seeds_place
    if not seeds:
        seeds = list(dict.fromkeys(run.seed for run in seen if run.seed is not None))
        place = "no seed is claimed"
        if not seeds and len(seen) == 1:  # one log without a seed: whatever its seed was, it is the one run
            seeds, seen = [0], [replace(seen[0], printed=0)]
    told = [claim.seed for claim in read.claims if claim.seed is not None]
    everyone = assign(list(dict.fromkeys([*seeds, *told])), seen, read.claims)
    assigned = narrowed(everyone, seeds)
    findings = [*read.findings]
    if read.seeds:
        findings += seed_findings(seeds, place, assigned)
    findings += _counted(read, seeds)
    own = _own_means(read)
    for claim in read.claims:
        one = judge(claim, seeds, assigned if claim.seed is None or claim.seed in seeds else everyone)
        one = own[claim.place] if one.verdict == UNKNOWN and claim.place in own else one
        findings.append(_as_shipped(claim, one, read.folder) if one.verdict == FAIL else one)
    findings += _ratios(read, assigned)
    findings += _code_file(read, assigned)
    findings += _others(f"{SUBMISSION}: others", read.document.other, "no log tells such a number")
    findings += _others(f"{README}: others", read.readme_others, "read as no claim")
    return findings, assigned, seeds


def _others(place: str, others: list[str], why: str) -> list[Finding]:
    """What was not judged, in one line."""
    if not others:
        return []
    names = ", ".join(others[:6]) + (", ..." if len(others) > 6 else "")
    return [Finding(place, f"{len(others)} number{'s'[: len(others) > 1]}", "", "", UNKNOWN, f"{why}: {names}")]


def _counted(read: Read, seeds: list[int]) -> list[Finding]:
    """`3-seed mean` in a headline, and n_seeds, against the seeds that are listed."""
    told = list(read.counts)
    if type(count := read.facts.get("n_seeds")) is int:
        told.append((f"{SUBMISSION}: n_seeds", count))
    return [
        Finding(
            place,
            f"{count} seeds",
            f"{len(seeds)} listed",
            read.seeds_place,
            PASS if count == len(seeds) else FAIL,
            "" if count == len(seeds) else "other than the seeds that are listed",
        )
        for place, count in told
    ]


def _own_means(read: Read) -> dict[str, Finding]:
    """By place, each mean that is not that of the folder's own per-seed values: it contradicts itself, whatever the
    logs say, or where there are none."""
    found = {}
    document = read.document.claims
    for claim in document:
        if claim.metric not in (*SCORES, "val_loss") or claim.over != MEAN or claim.value is None:
            continue
        own = {one.seed: one for one in document if one.seed is not None and one.metric == claim.metric}
        values = [one.value for one in own.values() if one.value is not None]
        if len(values) < 2 or set(own) != set(read.seeds):
            continue
        mean = sum(values) / len(values)
        reach = replace(claim, half=claim.half + max(one.half for one in own.values()))
        if not reach.fits(mean):
            why = f"not the mean of its own {len(values)} per-seed values"
            one = Finding(claim.place, claim.says, f"{mean:.8f}", SUBMISSION, FAIL, why, claim.value, mean)
            found[claim.place] = one
    return found


def _ratios(read: Read, assigned: Assigned) -> list[Finding]:
    """val_loss / (val_bpb ln 2) of what is claimed: the bytes a token, which a tokenizer and a text fix."""
    import math

    place = f"{SUBMISSION}: val_loss/(val_bpb ln 2)"
    pair = [
        next((one for one in read.document.claims if one.metric == metric and one.over == MEAN and one.value), None)
        for metric in (BPB, "val_loss")
    ]
    bpb, loss = pair
    if bpb is None or loss is None or not bpb.value or loss.value is None:
        return []
    ratio = loss.value / (bpb.value * math.log(2))
    reach = (bpb.half / bpb.value + (loss.half / loss.value if loss.value else 0)) * ratio + 1e-4
    says = f"{ratio:.4f} B/token"
    known = [run for run in assigned.runs.values() if run.bytes_per_token is not None]
    if known:
        derived = known[0].bytes_per_token or 0.0
        fits = abs(ratio - derived) <= reach + SAME_RATIO * derived
        why = "" if fits else "the two cannot be of the same evaluation, or one of them is no such number"
        source = known[0].source("val_loss")
        verdict = PASS if fits else FAIL
        return [Finding(place, says, f"{derived:.4f} B/token", source, verdict, why, ratio, derived)]
    if any(abs(ratio - one) <= reach + SAME_RATIO * one for one in BYTES_PER_TOKEN.values()):
        return [Finding(place, says, "", "", UNKNOWN, "fits a tokenizer of the race; no log gives both", ratio)]
    return [Finding(place, says, "", "", UNKNOWN, "no tokenizer of the race has this, and no log gives both", ratio)]


def _as_shipped(claim: Claim, one: Finding, folder: Folder) -> Finding:
    """Code bytes that are those of the file that is here, where the logs tell others: these may be of an older file."""
    size = folder.files[BUNDLE].size if folder.has(BUNDLE) else 0
    if claim.metric != "code_bytes" or claim.seed is not None or not size or not claim.fits(size):
        return one
    return replace(one, derived=f"{size:,} B", source=BUNDLE, verdict=PASS, why="not what the logs count", value=size)


def _code_file(read: Read, assigned: Assigned) -> list[Finding]:
    """Claimed code bytes against the file that is here."""
    claim = next((one for one in read.document.claims if one.metric == "code_bytes" and one.seed is None), None)
    place = BUNDLE
    if not read.folder.has(BUNDLE):
        return [Finding(place, "", "", "", UNKNOWN, f"there is no {BUNDLE} in the folder: nobody can run this")]
    size = read.folder.files[BUNDLE].size
    if not size:
        return [Finding(place, "0 B", "", BUNDLE, FAIL, "the file is empty: nobody can run this")]
    if claim is None or claim.value is None:
        return []
    verdict = PASS if claim.fits(size) else FAIL
    why = "" if verdict == PASS else f"{claim.says} B of code are claimed, the file that is here has another size"
    return [Finding(place, f"{claim.says} B", f"{size:,} B", BUNDLE, verdict, why, claim.value, size)]


def _flags(read: Read, gates: list[Check], policy: Mapping[str, typing.Any]) -> list[Finding]:
    """A flag that says yes needs its gates to pass, and is unknown where no gate is its; one that says no needs
    nothing."""
    found = []
    for key, told in read.document.flags.items():
        if not told:
            continue
        names = FLAGS.get(key, ())
        if key == "policy_met" and read.facts.get("policy") == policy.get("name"):
            names = tuple(gate.name for gate in gates)
        verdicts = [gate.verdict for gate in gates if gate.name in names]
        verdict = FAIL if FAIL in verdicts else PASS if verdicts and set(verdicts) == {PASS} else UNKNOWN
        why = f"see the gate{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else "no gate tells this"
        why = "" if verdict == PASS else why
        place = f"{SUBMISSION}: compliance.{plain(key, 40)}"
        found.append(Finding(place, "true", verdict if names else "", "", verdict, why))
    return found


def _placed(findings: list[Finding], claims: list[Claim], folder: Folder) -> list[Finding]:
    """Where a contradicted number does stand in a log. One of several clocks or stages is then not refuted."""
    loose = {(claim.place, claim.says) for claim in claims if claim.metric in LOOSE}
    texts = {one.says for one in findings if one.verdict == FAIL and _is_telling(one.says)}
    places = places_of(folder, logs_of(folder), texts)
    found = []
    for one in findings:
        place = places.get(one.says) if one.verdict == FAIL else None
        if place is None:
            found.append(one)
        elif (one.place, one.says) in loose:
            why = f"the number stands at {place}; whether it is this figure, the log does not say"
            found.append(replace(one, verdict=UNKNOWN, why=why))
        else:
            why = one.why.removesuffix("no log of the folder gives this number")
            more = "" if place in why else f"{'; ' if why else ''}it stands at {place}"
            found.append(replace(one, why=why + more))
    return found


def _is_telling(text: str) -> bool:
    return sum(one.isdecimal() for one in text) >= 5 and text.replace(".", "", 1).replace(",", "").isdecimal()


def _notes(assigned: Assigned, read: Read) -> list[str]:
    notes = [f"seed {seed}: {plain(note)}" for seed, note in assigned.notes.items()]
    if assigned.others and read.seeds:
        more = ", ".join(plain(run.place, 60) for run in assigned.others[:5])
        count = len(assigned.others)
        which = "1 more run here stands" if count == 1 else f"{count} more runs here stand"
        notes.append(f"{which} behind no claimed seed: {more}")
    return notes
