"""What `compare` holds against each other: a submission of ours, anybody's folder or logs, values, a frontier row."""

import math
import re
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from golf_core.fields import ConfigError
from golf_core.frontier import BEST, Frontier, FrontierRow
from golf_core.policy import Claim
from golf_core.significance import NotTestable, Sample, sample_of
from results.claims import Scored, claim_of, ratio_of, scored_row, scored_rows
from results.gates import limit_of
from results.spec import SPEC, UnknownSubmission, find_submission

Score = tuple[int | None, float]  # seed where it is known, BPB
SUMMARY = re.compile(r"(n|mean|sd)=([^,]+)")
LONGEST_SHOWN = 80  # characters of what was typed, in a message; no id has more
FORMS = (
    "a submission id, a submission's folder, log files (a.log,b.log), values (1.0792,1.0799), a summary "
    "(n=6,mean=1.060755,sd=0.000933), or a frontier row (1493, best)"
)


class SideError(Exception):
    """A side that cannot be read as scores; the message says which and what would do."""


class NoScoreYet(SideError):
    """A submission without one counted score; `failed` where that is because a seed failed."""

    def __init__(self, message: str, failed: bool) -> None:
        super().__init__(message)
        self.failed = failed


@dataclass(frozen=True, kw_only=True)
class Side:
    what: str  # in words, for the table
    scored: Scored
    scores: tuple[Score, ...] = ()  # empty where only a summary is known
    registered: tuple[int, ...] = ()  # seeds of a submission in order, counted or not
    lost: tuple[int, ...] = ()  # of these the ones that failed: unless run again, the list has no end
    rule: tuple[str, Claim, int] | None = None  # claim rule that it was registered under: policy, claim, seeds
    row: FrontierRow | None = None
    script: tuple[str, ...] = ()  # of a script: which text, and each variable of its environment
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        return len(self.registered) - self.scored.sample.n if self.registered else 0


def read_side(word: str, frontier: Frontier, runs_dir: Path, bytes_per_token: float | None = None) -> Side:
    """One side as it stands on the command line. Raises SideError, UnknownSubmission, RunDirError or OSError.

    `bytes_per_token` serves values and summaries, which have no loss of their own.
    """
    parts = [part.strip() for part in word.split(",")]
    if not any(parts):
        raise SideError(f"{word!r} names no scores; give {FORMS}")
    if "" in parts and not is_at(Path(word), Path.exists):
        raise SideError(f"{word[:LONGEST_SHOWN]!r}: part {parts.index('') + 1} of {len(parts)} is empty; give {FORMS}")
    if all(SUMMARY.fullmatch(part) for part in parts):
        return _of_summary(word, [part.partition("=")[::2] for part in parts], bytes_per_token)
    if all(_number(part) is not None for part in parts) and ("," in word or "." in word):
        scores = [(None, _bpb(part)) for part in parts]
        return _of_scores(f"values {word}", scores, bytes_per_token, notes=(_unproved("values"),))
    if is_at(Path(word), Path.is_dir):
        if (Path(word) / SPEC).is_file():
            return _of_submission(Path(word))
        return _of_folder(Path(word))
    files = [part for part in parts if is_at(Path(part), Path.is_file)]
    if len(files) == len(parts):
        return of_logs([Path(part) for part in parts])
    if files:
        other = next(part for part in parts if part not in files)
        raise SideError(f"{files[0]!r} is a file, {other[:LONGEST_SHOWN]!r} is none; give {FORMS}")
    named = any(word == row.name for row in frontier.rows)
    if not named and any(_number(part) is not None for part in parts) and len(parts) > 1:
        other = next(part for part in parts if _number(part) is None)
        raise SideError(f"{other[:LONGEST_SHOWN]!r} is no file, row or submission, and no finite number; give {FORMS}")
    if not named and len(word) <= LONGEST_SHOWN and re.search(r"[/\\]|\.[A-Za-z]+$", word):
        raise SideError(
            f"there is no file or folder {word[:LONGEST_SHOWN]!r}, and no id or row is named so; give {FORMS}"
        )
    return _of_name(word, frontier, runs_dir)


def is_at(path: Path, what: Callable[[Path], bool]) -> bool:
    """Of a path that anybody typed: one that no file can have is none."""
    try:
        return what(path)
    except (OSError, ValueError):  # a name that is too long, a NUL
        return False


def _of_name(word: str, frontier: Frontier, runs_dir: Path) -> Side:
    """A frontier row, or the start of a submission's id. Digits may be both; that is never guessed."""
    row = submission = None
    try:
        row = frontier.find(word)
    except ConfigError as error:
        if len(word) > LONGEST_SHOWN:
            raise SideError(f"{word[:LONGEST_SHOWN] + '...'!r} is no file, row or submission; give {FORMS}") from None
        if word.startswith("#"):
            raise SideError(str(error)) from None
    try:
        submission = None if word == BEST or word.startswith("#") else find_submission(runs_dir, word)
    except UnknownSubmission as error:
        if row is None:
            raise SideError(f"{error}. Give {FORMS}; compare --rows lists the rows") from None
    if row is not None and submission is not None:
        raise SideError(f"{word!r} is a frontier row and the start of submission {submission.name}; write #{word}")
    if row is None:
        assert submission is not None
        return _of_submission(submission)
    shown = f"{row.label} {row.name}" if row.pr is not None else row.label
    notes: tuple[str, ...] = (f"figures of {row.label}: {row.source}" + (f"; {row.note}" if row.note else ""),)
    if row.sample.sd is None and not row.scores:
        notes = (f"of {row.label} only the mean is known, not how its seeds spread: nothing can be tested", *notes)
    return Side(what=f"{shown}, {row.tokenizer}", scored=scored_row(row), scores=row.scores, row=row, notes=notes)


def _of_submission(folder: Path) -> Side:
    from results.collect import collect

    found = collect(folder)
    if found.diagnostic_only:
        raise SideError(f"submission {folder.name} is diagnostic_only: none of its numbers is a score")
    label = f"submission {folder.name}"
    scored = scored_rows(label, found.rows)
    if scored is None:
        states = ", ".join(f"{row.seed} {row.status}" for row in found.rows)
        raise NoScoreYet(f"{label} has no counted score yet ({states})", found.failed)
    claim = claim_of(found.spec.policy)
    what = " ".join([label, found.spec.recipe, *found.spec.overrides])
    lost = tuple(row.seed for row in found.rows if row.status.startswith("failed"))
    notes = [*found.notes, *([] if scored.text.length is not None else [_unproved(label)])]
    script: tuple[str, ...] = ()
    if found.spec.script is not None:
        given = (f"--env {name}={value}" for name, value in found.spec.script.environment.items())
        script = (f"(sha256 {found.spec.bundle_sha256[:12]})", *given)
    if lost:
        seeds = f"seed{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))}"
        notes.insert(
            0, f"{label}: {seeds} failed: without `--retry-failed` the list is not finished: no chance is told"
        )
        scored = replace(scored, obstacle=f"{seeds} of {len(found.rows)} registered failed")
    return Side(
        what=what,
        scored=scored,
        scores=tuple((row.seed, row.val_bpb) for row in found.rows if row.counted and row.val_bpb is not None),
        registered=tuple(row.seed for row in found.rows),
        lost=lost,
        script=script,
        rule=None if claim is None else (found.spec.policy_name, claim, int(limit_of(found.spec.policy, "seeds"))),
        notes=tuple(notes),
    )


def _of_folder(path: Path) -> Side:
    """Anybody's submission folder: each seed's score from the log that printed it, else as submission.json claims."""
    from results.untrusted import Folder
    from results.verify.assign import assign
    from results.verify.document import claims_of_document
    from results.verify.seen import Seen, seen_in_logs
    from results.verify.words import BPB, ONE

    folder = Folder(path)
    runs = seen_in_logs(folder)
    document = (
        claims_of_document(folder.document("submission.json"), "submission.json")
        if folder.has("submission.json")
        else None
    )
    claimed = (
        {}
        if document is None
        else {
            claim.seed: claim.value
            for claim in document.claims
            if claim.metric == BPB and claim.over == ONE and claim.seed is not None and claim.value is not None
        }
    )
    if document is None or document.seeds is None:
        chosen: list[tuple[int | None, Seen]] = [(run.seed, run) for run in runs]
        missing: list[int] = []
    else:
        assigned = assign(document.seeds, runs, document.claims)
        chosen = list(assigned.runs.items())
        missing = [seed for seed in document.seeds if seed not in assigned.runs]
    known = [(seed, run) for seed, run in chosen if BPB in run.values]
    missing += [seed for seed, run in chosen if BPB not in run.values and seed is not None]
    told = [(seed, value) for seed in missing if (value := claimed.get(seed)) is not None]
    notes = [f"seed {seed}: no log gives its score; {value} is what submission.json claims" for seed, value in told]
    notes += [f"seed {seed}: no log and no claim gives its score" for seed in missing if seed not in dict(told)]
    scores: list[Score] = [*((seed, run.values[BPB]) for seed, run in known), *told]
    losses = [run.values["val_loss"] for _, run in known if "val_loss" in run.values]
    ratio = ratio_of(losses, [run.values[BPB] for _, run in known]) if losses and len(losses) == len(known) else None
    side = _of_scores(f"folder {path.name}", scores, ratio, notes=(*notes, _unproved(path.name)))
    gaps = len(missing) - len(told)
    blocked = f"{gaps} of its seeds have no score" if gaps else ""
    return replace(side, scored=replace(side.scored, obstacle=side.scored.obstacle or blocked))


def of_logs(paths: Sequence[Path]) -> Side:
    """A run of each log; equal runs of equal seeds are one run told twice."""
    from results.parse.reader import parse_file

    runs = [run for path in paths for run in parse_file(path)]
    if silent := [run for run in runs if run.final_bpb is None]:
        why = silent[0].reasons.get("final_bpb", "the log does not tell it")
        raise SideError(f"{silent[0].file} (run {silent[0].run} of {silent[0].runs}) gives no final score: {why}")
    notes, scores, losses = [], [], []
    for run in runs:
        if (run.seed, run.final_bpb) in scores:
            notes.append(f"{run.file}: the same seed and score as a log before it; counted once")
            continue
        assert run.final_bpb is not None
        scores.append((run.seed, run.final_bpb))
        losses.append(run.final_val_loss)
    known = [loss for loss in losses if loss is not None]
    ratio = ratio_of(known, [score for _, score in scores]) if len(known) == len(scores) else None
    what = f"log {paths[0].name}" if len(paths) == 1 else f"{len(paths)} logs, {paths[0].name} first"
    return _of_scores(what, scores, ratio, notes=(*notes, _unproved("the logs")))


def _of_summary(word: str, parts: Sequence[tuple[str, str]], ratio: float | None) -> Side:
    keys = [key for key, _ in parts]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise SideError(f"{word!r}: {repeated[0]} is given several times; a summary is n=SEEDS,mean=BPB,sd=BPB")
    numbers = {}
    for key, text in parts:
        if (value := _number(text)) is None:
            raise SideError(f"{word!r}: {key}={text!r} is no number; a summary is n=SEEDS,mean=BPB,sd=BPB")
        numbers[key] = value
    n, mean = numbers.get("n"), numbers.get("mean")
    if n is None or mean is None or n != int(n):
        raise SideError(f"{word!r}: a summary is n=SEEDS,mean=BPB,sd=BPB, with a whole n")
    if numbers.get("sd", 0.0) > _bpb(dict(parts)["mean"]):
        raise SideError(f"{word!r}: sd={numbers['sd']} is more than the mean; it is a sample standard deviation in BPB")
    try:
        sample = Sample(n=int(n), mean=mean, sd=numbers.get("sd"))
    except NotTestable as error:
        raise SideError(f"{word!r}: {error}") from None
    scored = Scored(label=f"summary {word}", sample=sample, bytes_per_token=ratio)
    return Side(what=scored.label, scored=scored, notes=(_unproved("a summary"),))


def _of_scores(what: str, scores: Sequence[Score], ratio: float | None, notes: tuple[str, ...] = ()) -> Side:
    if not scores:
        raise SideError(f"{what} gives no score")
    seeds = [seed for seed, _ in scores if seed is not None]
    if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        notes = (*notes, f"{what}: seed {repeated[0]} stands several times; repeats of a seed are no further seeds")
    obstacle = "several scores are of one seed" if repeated else ""
    sample = sample_of(score for _, score in scores)
    scored = Scored(label=what, sample=sample, bytes_per_token=ratio, obstacle=obstacle)
    return Side(what=what, scored=scored, scores=tuple(scores), notes=notes)


def _unproved(what: str) -> str:
    return f"{what}: nothing here proves which validation text the scores are of"


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _bpb(text: str) -> float:
    """A score that can be a BPB. Losses, sizes and percentages are not."""
    value = _number(text)
    if value is None or not 0.05 < value < 8:
        raise SideError(f"{text!r} is no BPB: between 0.05 and 8 bits per byte, such as 1.0792")
    return value


def bytes_per_token_of(text: str, frontier: Frontier) -> float:
    """`--bytes-per-token`: a number, or a tokenizer that the frontier knows."""
    if text in frontier.bytes_per_token:
        return frontier.bytes_per_token[text]
    value = _number(text)
    if value is None or not 0.5 < value < 100:
        raise SideError(f"--bytes-per-token {text!r}: a number, or one of {', '.join(frontier.bytes_per_token)}")
    return value


def as_json(side: Side) -> dict[str, typing.Any]:
    sample = side.scored.sample
    return {
        "what": side.what,
        "scores": [{"seed": seed, "val_bpb": score} for seed, score in side.scores],
        "n": sample.n,
        "registered": list(side.registered) or None,
        "mean_bpb": sample.mean,
        "sample_sd": sample.sd,
        "t95_half_width": sample.half_width,
        "bytes_per_token": side.scored.bytes_per_token,
        "notes": list(side.notes),
    }
