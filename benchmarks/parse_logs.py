"""The log parser beside the four that people write: claims right, wrong and left out, and megabytes a CPU-second.

    GOLF_TRAIN_LOGS=FOLDER python benchmarks/parse_logs.py

FOLDER holds real logs with their truth (records_truth.csv, pull_requests_truth.csv); without it only the speed is
measured, on logs that are made here. A wrong claim is one that is not the run's, said without a warning; `left out`
is the honest answer where a log does not tell. Speed is CPU time, one core, everything read from memory.
"""

import csv
import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from results.parse.reader import parse_stream
from results.parse.run import ParsedRun

Parser = Callable[[bytes], float | None]
ROUNDTRIP = re.compile(r"final_int8_zlib_roundtrip(?:_exact)? val_loss:\S+ val_bpb:(\d+\.\d+)")
ANY = re.compile(r"val_bpb\s*[:=]\s*(\d+\.\d+)")
ORDER = ("legal_ttt_exact", "final_int6_sliding_window_exact", "final_int8_zlib_roundtrip_exact", "final_")
REPEATS = 3  # of a speed measurement; the fastest counts
# Fields of records_truth.csv, with the tolerance of its digits; ttt_gain has the other sign there.
FIELDS = {
    **dict.fromkeys(("seed", "steps", "artifact_bytes", "code_bytes", "model_params", "world_size"), 0.0),
    **dict.fromkeys(("step_avg_ms", "train_time_s", "ttt_time_s", "eval_time_s"), 0.006),
    **dict.fromkeys(("pre_quant_bpb", "roundtrip_bpb", "sliding_bpb", "pre_ttt_bpb", "post_ttt_bpb"), 1e-9),
    **dict.fromkeys(("ttt_gain", "final_val_loss"), 1e-9),
}


def first_label(data: bytes) -> float | None:
    found = ROUNDTRIP.findall(data.decode(errors="replace"))
    return float(found[-1]) if found else None


def label_order(data: bytes) -> float | None:
    lines = data.decode(errors="replace").splitlines()
    for label in ORDER:
        for line in reversed(lines):
            if line.startswith(label) and (found := ANY.search(line)):
                return float(found[1])
    return None


def lowest(data: bytes) -> float | None:
    return min(map(float, ANY.findall(data.decode(errors="replace"))), default=None)


def last(data: bytes) -> float | None:
    found = ANY.findall(data.decode(errors="replace"))
    return float(found[-1]) if found else None


def ours(data: bytes) -> float | None:
    return parse_stream(io.BytesIO(data), "log")[-1].final_bpb


PARSERS: dict[str, Parser] = {
    "final_int8_zlib_roundtrip": first_label,
    "an order of labels": label_order,
    "lowest val_bpb": lowest,
    "last val_bpb": last,
    "results parse": ours,
}


def claims(folder: Path) -> list[tuple[bytes, str]]:
    """(log, claim) for every claim that its log contains."""
    found = []
    for row in rows(folder / "pull_requests_truth.csv"):
        if row["value_appears_in_log"] == "1":
            found.append(((folder / row["file"]).read_bytes(), row["claimed_val_bpb"]))
    for row in rows(folder / "records_truth.csv"):
        data = (folder / row["file"]).read_bytes()
        number, _, count = row["run_in_file"].partition("/")
        if number == count and row["final_bpb"].rstrip("0").encode() in data:
            found.append((data, row["final_bpb"]))
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def judge(parser: Parser, cases: list[tuple[bytes, str]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for data, claim in cases:
        value = parser(data)
        if value is None:
            counts["left out"] += 1
        else:
            digits = len(claim.partition(".")[2])
            counts["right" if abs(value - float(claim)) <= 0.5000001 * 10.0**-digits else "wrong"] += 1
    return counts


def field_table(folder: Path) -> None:
    counted: dict[str, Counter[str]] = {name: Counter() for name in FIELDS}
    for row in rows(folder / "records_truth.csv"):
        number, count = map(int, row["run_in_file"].split("/"))
        runs = parse_stream(io.BytesIO((folder / row["file"]).read_bytes()), row["file"])
        run: ParsedRun | None = runs[number - 1] if len(runs) == count else runs[-1] if number == count else None
        if run is None:
            continue  # its lines were blanked in the given file
        for name, tolerance in FIELDS.items():
            value, truth = getattr(run, name), row[name]
            sign = -1 if name == "ttt_gain" else 1
            if not truth or value is None:
                known = "left out" if truth else "right"
                counted[name][known if value is None else "wrong"] += 1
            else:
                counted[name]["right" if abs(sign * float(truth) - value) <= tolerance else "wrong"] += 1
    print(f"\n{'field of merged records':<26}{'right':>8}{'wrong':>8}{'left out':>10}")
    for name, counts in counted.items():
        print(f"{name:<26}{counts['right']:>8}{counts['wrong']:>8}{counts['left out']:>10}")


def megabytes_a_second(parser: Parser, logs: list[bytes]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        begin = time.process_time()
        for data in logs:
            parser(data)
        best = min(best, time.process_time() - begin)
    return sum(map(len, logs)) / 1e6 / best


def made_logs() -> dict[str, list[bytes]]:
    """Ten logs that embed source, as large as a record's, and one of step lines alone."""
    folder = Path(__file__).parents[1] / "golf_core"
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py")))[:90_000]
    steps = "".join(
        f"step:{i}/20000 train_loss:2.{i % 10000:04d} train_time:{i * 84}ms step_avg:84.00ms\n" for i in range(1, 7200)
    )
    few = "".join(line + "\n" for line in steps.splitlines()[::100])
    end = (
        "step:7199/20000 val_loss:1.9221 val_bpb:1.1384 train_time:600061ms step_avg:83.35ms\n"
        "stopping_early: wallclock_cap train_time:600061ms step:7199/20000\n"
        "Serialized model int6+lzma: 15887928 bytes\nTotal submission size int6+lzma: 15977386 bytes\n"
        "final_int8_zlib_roundtrip_exact val_loss:1.93366441 val_bpb:1.14518023\n"
    )
    head = "world_size:8 grad_accum_steps:1\nseed:1337\n"
    embedded = f"{source}\n{'=' * 100}\n{head}{few}{end}".encode()
    return {"source embedded": [embedded] * 10, "step lines": [f"{head}{steps}{end}".encode()] * 4}


def main() -> None:
    named = os.environ.get("GOLF_TRAIN_LOGS")
    sets = made_logs()
    if named:
        folder = Path(named)
        cases = claims(folder)
        sets["real logs"] = [data for data, _ in cases]
        print(f"{len(cases)} claims that their logs contain\n{'parser':<28}{'right':>8}{'wrong':>8}{'left out':>10}")
        for name, parser in PARSERS.items():
            counts = judge(parser, cases)
            share = f"{100 * counts['right'] / len(cases):.1f} %"
            print(f"{name:<28}{share:>8}{counts['wrong']:>8}{counts['left out']:>10}")
        field_table(folder)
    else:
        print("GOLF_TRAIN_LOGS names no folder of real logs: only the speed is measured")
    print("\nmegabytes a CPU-second" + "".join(f"{name:>18}" for name in sets))
    for name, parser in PARSERS.items():
        speeds = [megabytes_a_second(parser, logs) for logs in sets.values()]
        print(f"{name:<28}".ljust(22) + "".join(f"{speed:>18.1f}" for speed in speeds))


if __name__ == "__main__":
    main()
