"""Score ledgers that hold, for attempts made up in tests: written down plainly, with nothing but hashlib and zlib."""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

EVENT = struct.Struct("<QBdQQQQ")
VERDICTS = {
    "TRACK_A": "wcme",
    "SCORE_FIRST_OK": "wcmacme",
    "ILLEGAL_TRAIN_BEFORE_SCORE": "wucme",
}
KINDS = {"c": 1, "a": 2, "m": 4, "w": 5, "u": 6, "e": 7}


def ledger_of(stages: Mapping[str, Mapping[str, Any]]) -> tuple[bytes, dict[str, dict[str, Any]]]:
    """score_ledger.bin for these stages of scores.json, and the stages with the ends of their chains."""
    heads, records, told = [], b"", {}
    for name, facts in stages.items():
        head, record = stage_of(name, facts)
        heads.append(head)
        records += record
        told[name] = {**facts, "ledger_order": head["order"], "ledger_clock": head["clock"]}
    text = json.dumps(heads).encode()
    body = b"GOLFLDG2" + struct.pack("<Q", len(text)) + text + records
    return body + hashlib.sha256(body).digest(), told


def stage_of(name: str, facts: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    tokens, text, verdict = facts["tokens"], facts["bytes"], facts["verdict"]
    nats, kinds = facts["val_loss"] * tokens, VERDICTS[verdict]
    half = tokens // 2 if kinds.count("c") == 2 else tokens
    begin = hashlib.sha256(f"GOLFLDG2 {name} {tokens} 0 1".encode()).digest()
    order, clock, scored = begin, begin, 0
    columns: list[list[Any]] = [[] for _ in range(8)]  # as in the file
    for number, kind in enumerate(kinds):
        weights = 7 + (kind != "a" and "a" in kinds[:number])  # moved by what was learned
        loss, count, runs = 0.0, 0, []
        if kind == "c":
            first, scored = scored, half if not scored else tokens
            runs, count = [(first, scored)], text if scored == tokens else 0
            loss = nats * (scored - first) / tokens
            columns[7] += [0, scored - first]  # goes on where the commit before stopped
        elif kind in "au":
            runs = [(0, half if kind == "a" else tokens)]
            columns[7] += [0, runs[0][1]]
        content = EVENT.pack(number, KINDS[kind], loss, count, weights, 0, len(runs))
        order = hashlib.sha256(order + content + b"".join(struct.pack("<qq", *run) for run in runs)).digest()
        clock = hashlib.sha256(clock + order + struct.pack("<Q", 5 * number)).digest()
        if kind == "m":
            order, clock = hashlib.sha256(order * 2).digest(), hashlib.sha256(clock * 2).digest()
        for column, value in enumerate((KINDS[kind], 5 * (number > 0), len(runs), count, loss, weights, 0)):
            columns[column].append(value)
    reads = {"inputs": tokens, "targets": tokens, "learned": half if "a" in kinds else 0, "unscored": 0}
    reads["unscored"] = tokens + 1 if "u" in kinds else 0
    head = {"stage": name, "tokens": tokens, "world": 1, "nats": nats, "bytes": text, "verdict": verdict}
    head["reads"] = reads
    canonical = json.dumps(head, sort_keys=True, separators=(",", ":")).encode()
    ends = {"order": order, "clock": clock}
    head |= {key: hashlib.sha256(end + canonical).hexdigest() for key, end in ends.items()}
    kinds_of = ["u1", "<i8", "<i8", "<i8", "<f8", "<u8", "<u8", "<i8"]
    record = b"".join(packed(np.array(c, dtype=kind)) for c, kind in zip(columns, kinds_of, strict=True))
    return head | {"ranks": [{"events": len(kinds), "runs": len(columns[7]) // 2, "size": len(record)}]}, record


def packed(values: np.ndarray) -> bytes:
    data = zlib.compress(values.view(np.uint8).reshape(len(values), values.itemsize).T.tobytes())
    return struct.pack("<I", len(data)) + data
