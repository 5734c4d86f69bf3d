"""What a submission's logs add to the reading of its source: clocks, sizes, data fingerprints, the claimed score."""

import re
from collections.abc import Iterator
from pathlib import Path

from results.audit.finding import FAIL, PASS, REVIEW, Finding
from results.parse.reader import parse_file
from results.parse.run import ParsedRun
from results.untrusted import plain

CAP_S = 600.0
STEP_S = 1.0  # beyond the cap: a stop after a step that ends late, as merged records have it
CAP_BYTES = 16_000_000
TOO_GOOD = 0.9  # bits per byte: below it something other than a language model is measured
LEAKY_SHARDS = 1499  # of train, where 40,000 documents of validation were left in it (rules.md D4)
PARTIAL_TOKENS = 9_662_464  # of validation with 10,000 documents in place of 50,000
FINGERPRINT = re.compile(rb"(train_shards|val(?:idation)?[_ ]tokens|tokens)\s*[:=]\s*([\d,_]+)")
MAX_LINES = 200_000


def log_findings(path: Path, file_bytes: int | None) -> list[Finding]:
    """What one log says against a submission, or that it says nothing. Raises OSError."""
    name = plain(path.name)
    found = [*_fingerprints(path, name)]
    runs = [run for run in parse_file(path) if run.evidence]
    for run in runs:
        found += _run_findings(run, name, file_bytes)
    if not runs:
        found.append(Finding("log", REVIEW, "[R] E3", "no training run is in the log", name, None))
    if all(one.verdict == PASS for one in found):
        says = f"{len(runs)} run(s) within time and size, with the data of the race as far as the log tells"
        found.append(Finding("log", PASS, "[R] B1, B2, C1", says, name, None))
    return found


def _fingerprints(path: Path, name: str) -> Iterator[Finding]:
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if number > MAX_LINES:
                break
            for key, value in FINGERPRINT.findall(line[:4096]):
                count = int(re.sub(rb"[,_]", b"", value)[:18] or b"0")
                evidence = plain(line[:400].decode("utf-8", "replace"), 160)
                if key == b"train_shards" and count == LEAKY_SHARDS:
                    says = f"{LEAKY_SHARDS} training shards: validation documents 10,000 to 49,999 are among them"
                    yield Finding("D4", FAIL, "[M] D4; #2127", says, name, number, evidence)
                elif key != b"train_shards" and count == PARTIAL_TOKENS:
                    says = f"{PARTIAL_TOKENS:,} validation tokens: 10,000 documents in place of 50,000"
                    yield Finding("D4", FAIL, "[M] D4", says, name, number, evidence)


def _run_findings(run: ParsedRun, name: str, file_bytes: int | None) -> Iterator[Finding]:
    def finding(rule: str, verdict: str, authority: str, says: str, field: str) -> Finding:
        told = run.evidence.get(field)
        line, text = (told.line, plain(told.text, 160)) if told else (None, "")
        return Finding(rule, verdict, authority, says, name, line, text)

    if run.train_time_s is not None and run.train_time_s > CAP_S:
        verdict = FAIL if run.train_time_s > CAP_S + STEP_S else PASS
        says = f"training took {run.train_time_s:.3f} s; the cap is {CAP_S:.0f} s"
        yield finding("B1", verdict, "[R] B1; [P] #1908, #1945", says, "train_time_s")
    for field in ("eval_time_s", "ttt_time_s"):
        seconds = getattr(run, field)
        if seconds is not None and seconds > CAP_S:
            says = f"evaluation took {seconds:.1f} s; the cap is {CAP_S:.0f} s"
            yield finding("B2", FAIL, "[R] B2; [M] #1972", says, field)
            break
    if run.artifact_bytes is not None and run.artifact_bytes > CAP_BYTES:
        says = f"code and model have {run.artifact_bytes:,} bytes; {CAP_BYTES:,} are allowed"
        yield finding("C1", FAIL, "[R] C1; [M] #1809", says, "artifact_bytes")
    if run.code_bytes is not None and file_bytes is not None and run.code_bytes != file_bytes:
        says = f"the log counts {run.code_bytes:,} bytes of code; the file has {file_bytes:,}"
        yield finding("C2", REVIEW, "[M] C2; #1835", says, "code_bytes")
    if run.final_bpb is not None and run.final_bpb < TOO_GOOD:
        says = f"{run.final_bpb:.4f} bits per byte is claimed; below {TOO_GOOD} nothing legal has come"
        yield finding("D11", REVIEW, "[C] audit D11", says, "final_bpb")
