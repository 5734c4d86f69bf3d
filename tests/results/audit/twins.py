"""Small scripts of the race's kind, in pairs that differ in the one thing that a rule is about."""

from pathlib import Path

from results.audit.finding import Finding
from results.audit.flow.follow import follow
from results.audit.judge import verdict_of
from results.audit.rules.order import check_order
from results.audit.rules.target import check_target
from results.audit.source import Limits, read_program

BASE = """
import argparse, copy, functools, glob, io, math, os
from dataclasses import dataclass
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

STEP = 1024


def stream(kind):
    files = sorted(glob.glob(f"./data/fineweb_{kind}_*.bin"))
    return torch.from_numpy(np.concatenate([np.fromfile(f, dtype="<u2", offset=1024).astype(np.int64) for f in files]))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(1024, 64)
        self.head = nn.Linear(64, 1024)

    def hidden(self, x):
        return torch.tanh(self.table(x))

    def forward(self, x):
        return self.head(self.hidden(x))


def learn(net, optimizer, x, y):
    optimizer.zero_grad()
    F.cross_entropy(net(x), y).backward()
    optimizer.step()


def fit(net, tokens, steps=1000):
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for step in range(steps):
        w = tokens[step * STEP : step * STEP + STEP + 1]
        learn(net, optimizer, w[:-1], w[1:])

#FUNCTIONS

def evaluate(net, val, widths):
    nats, size = 0.0, 0.0
    #SETUP
    for start in range(0, val.numel() - STEP, STEP):
        x, y = val[start : start + STEP], val[start + 1 : start + STEP + 1]
        #TURN
        size += widths[y].sum().item()
    return nats, size


def main():
    net = Net()
    fit(net, stream("train"))
    val = stream("val")
    widths = torch.from_numpy(np.load("widths.npy"))
    #BEFORE
    with open("model.pt", "wb") as file:
        torch.save(net.state_dict(), file)
    net = Net()
    with open("model.pt", "rb") as file:
        net.load_state_dict(torch.load(file))
    #AFTER
    nats, size = evaluate(net, val, widths)
    print(f"val_bpb {nats / math.log(2.0) / size:.6f}")


if __name__ == "__main__":
    main()
"""
SCORE = 'with torch.inference_mode():\n    nats += F.cross_entropy(net(x), y, reduction="sum").item()'
TRAINER = "optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)"
LEARN = "learn(net, optimizer, x, y)"


def made(**parts: str) -> str:
    """The base with code put at its marks; without TURN, it scores with a frozen model."""
    lines = []
    parts = {"TURN": SCORE, **parts}
    for line in BASE.split("\n"):
        mark = line.strip()
        if mark.startswith("#"):
            indent = line[: len(line) - len(line.lstrip())]
            lines += [indent + one if one else one for one in parts.get(mark[1:], "").split("\n")]
        else:
            lines.append(line)
    return "\n".join(lines)


def judged(folder: Path, text: str, run: str | None = None, **beside: str) -> list[Finding]:
    """What the rules that follow the data find in a script."""
    (folder / "train_gpt.py").write_text(text, encoding="utf-8")
    for name, module in beside.items():
        (folder / f"{name}.py").write_text(module, encoding="utf-8")
    program = read_program(folder, Limits())
    trace, machine = follow(program, run)
    assert trace.reports, "no score was seen"
    return [*check_order(program, trace), *check_target(program, trace, machine)]


def outcome(found: list[Finding]) -> tuple[str, set[str]]:
    return verdict_of(found), {one.rule for one in found if one.verdict != "pass"}


CHUNKS = """
def evaluate(net, val, widths):
    nats, size = 0.0, 0.0
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for low in range(0, val.numel() - 32 * STEP, 32 * STEP):
        chunk = val[low : low + 32 * STEP + 1]
        SCORE_AND_LEARN
    return nats, size
"""
SCORE_CHUNK = """for at in range(0, chunk.numel() - 1, STEP):
    with torch.inference_mode():
        nats += F.cross_entropy(net(chunk[:-1][at : at + STEP]), chunk[1:][at : at + STEP], reduction="sum").item()
    size += widths[chunk[1:][at : at + STEP]].sum().item()"""
LEARN_CHUNK = """for epoch in range(3):
    for at in range(0, chunk.numel() - 1, STEP):
        learn(net, optimizer, chunk[:-1][at : at + STEP], chunk[1:][at : at + STEP])"""


def chunked(*parts: str) -> str:
    """The base with an evaluation in chunks of 32 windows."""
    start, end = BASE.index("def evaluate"), BASE.index("def main")
    body = "\n".join(parts).replace("\n", "\n        ")
    return BASE[:start] + CHUNKS.strip().replace("SCORE_AND_LEARN", body) + "\n\n\n" + BASE[end:]


DOCUMENTS = """
def evaluate(net, val, widths):
    nats, size = 0.0, 0.0
    starts = (val == 1).nonzero().flatten().tolist()
    for low, high in zip(starts, starts[1:]):
        document = val[low : high + 1]
        down = nn.Parameter(torch.zeros(64, 8))
        up = nn.Parameter(torch.zeros(8, 1024))
        optimizer = torch.optim.Adam([down, up], lr=1e-2)
        BODY
    return nats, size
"""
LORA = """for at in range(0, document.numel() - 1, 256):
    x, y = document[:-1][at : at + 256], document[1:][at : at + 256]
    loss = F.cross_entropy(net(x) + net.hidden(x) @ down @ up, y, reduction="sum")
    nats += loss.item()
    size += widths[y].sum().item()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()"""
LAST_EPOCH = """for epoch in range(5):
    for at in range(0, document.numel() - 1, 256):
        x, y = document[:-1][at : at + 256], document[1:][at : at + 256]
        loss = F.cross_entropy(net(x) + net.hidden(x) @ down @ up, y, reduction="sum")
        if epoch == 4:
            nats += loss.item()
            size += widths[y].sum().item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()"""


def by_document(body: str) -> str:
    """The base with an evaluation document by document, with low-rank weights made anew for each."""
    start, end = BASE.index("def evaluate"), BASE.index("def main")
    return BASE[:start] + DOCUMENTS.strip().replace("BODY", body.replace("\n", "\n        ")) + "\n\n\n" + BASE[end:]
