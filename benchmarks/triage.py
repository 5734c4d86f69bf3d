"""What the static triage makes of labelled scripts, beside lists of keywords, and under other names.

    python benchmarks/triage.py [--set dev|held-out] [--list]

The scripts are those of tests/data/triage_scripts.tar.xz (what they are: tests/results/audit/corpus.py). Each is read
as `results audit` reads it, in its child processes, with the command it is run with; then again with every identifier
renamed. The keywords are the names and phrases by which reviewers look for the same techniques today, in the text as it
stands; `flagged` is review or fail. --list names the scripts that came out otherwise than labelled.

The aims: of the illegal at least 90 % flagged and 60 % failed, of the legal at most 10 % flagged and 3 % failed.
"""

import argparse
import re
import resource
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from results.audit.pool import Request, audit_many  # noqa: E402
from results.audit.source.program import Limits  # noqa: E402
from tests.results.audit.corpus import SETS, Labelled, rates, unpack  # noqa: E402
from tests.results.audit.rename import rename  # noqa: E402

KEYWORDS = (
    r"ttt_adapt|pre_?quant_?ttt|adapt_on_val|train_on_val|finetune_val|polish",
    r"(?s)val_(?:tokens|data)\w*.{0,2000}?\.backward\(\)(?!.{0,4000}?train_loader)",
    r"(?:full|pair|target)_?(?:key|hash)|ctx_hash|context_hash|\bprimes?\b|36313|count_min|pair_(?:counts|table)",
    r"slot_(?:steps|lr|enabled|delta)|\bdelta\b.{0,80}requires_grad|logit_bias.{0,80}requires_grad",
    r"rescore|re_score|two_pass|second_pass|pass_?2|best_bpb|min\(\s*best",
    r"oracle|within_word|word_start|boundary_lut\[\s*(?:y|tgt|target)|ppm|byte_mix",
    r"(?:hessian|calib)\w*\([^)\n]*val_|val_calib",
)


@dataclass(frozen=True)
class Case:
    """One script as it is given to a classifier."""

    labelled: Labelled
    path: Path


def by_keywords(path: Path) -> str:
    """The verdict of the keywords: fail where any of them is in the text or in a source beside it."""
    files = [path, *(one for one in path.parent.iterdir() if path.name == "train_gpt.py" and one != path)]
    text = "\n".join(one.read_text(encoding="utf-8") for one in files if one.is_file())
    return "fail" if any(re.search(one, text, re.IGNORECASE) for one in KEYWORDS) else "pass"


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def by_triage(cases: list[Case]) -> tuple[list[str], float]:
    """Verdicts, and processor seconds a script."""
    before = processor_seconds()
    verdicts = [one.verdict for one in audit_many([Request(case.path, case.labelled.run) for case in cases], Limits())]
    return verdicts, (processor_seconds() - before) / max(len(cases), 1)


def under_other_names(cases: list[Case], folder: Path) -> list[Case]:
    """Scripts of one file with every identifier renamed; those that this Python cannot parse are left out."""
    found = []
    for number, case in enumerate(cases):
        if case.path.name == "train_gpt.py":
            continue  # a module beside it would have to be renamed with it
        try:
            text = rename(case.path.read_text(encoding="utf-8"), seed=number)
        except SyntaxError:
            continue
        path = folder / f"{number}.py"
        path.write_text(text, encoding="utf-8")
        found.append(Case(case.labelled, path))
    return found


def show(title: str, cases: list[Case], verdicts: list[str], seconds: float | None = None) -> None:
    parts = []
    for label, (of, _passed, review, failed) in rates(
        (case.labelled.label, verdict) for case, verdict in zip(cases, verdicts, strict=True)
    ).items():
        parts.append(f"{label:<8} {of:>3}: flagged {(review + failed) / of:>4.0%}, failed {failed / of:>4.0%}")
    cost = "" if seconds is None else f"   {seconds:.2f} CPU-seconds a script"
    print(f"  {title:<22}" + "   ".join(parts) + cost, flush=True)


def measure(name: str, rows: list[Labelled], folder: Path, listed: bool) -> None:
    cases = [Case(one, folder / one.file) for one in rows if one.set == name]
    print(f"{name} ({len(cases)} scripts)")
    verdicts, seconds = by_triage(cases)
    show("triage", cases, verdicts, seconds)
    show("keywords", cases, [by_keywords(case.path) for case in cases])
    target = folder / f"renamed-{name}"
    target.mkdir()
    others = under_other_names(cases, target)
    renamed, seconds = by_triage(others)
    show("triage, renamed", others, renamed, seconds)
    show("keywords, renamed", others, [by_keywords(case.path) for case in others])
    first = {case.labelled.file: verdict for case, verdict in zip(cases, verdicts, strict=True)}
    wanted = {"legal": "pass", "illegal": "fail", "disputed": "review"}
    for case in cases if listed else ():
        if first[case.labelled.file] != wanted[case.labelled.label]:
            print(f"    {first[case.labelled.file]:<7}{case.labelled.file}  {case.labelled.kind}")
    for case, verdict in zip(others, renamed, strict=True):
        if verdict != first[case.labelled.file]:
            print(f"    {case.labelled.file}: {first[case.labelled.file]}, and {verdict} under other names")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, help="only these")
    parser.add_argument("--list", action="store_true", help="name what came out otherwise than labelled")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="golf-triage-") as folder:
        rows = unpack(Path(folder))
        for name in SETS:
            if arguments.set in (None, name):
                measure(name, rows, Path(folder), arguments.list)


if __name__ == "__main__":
    main()
