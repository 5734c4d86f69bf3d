"""The rules that follow data through a script: each breach found, its legal twin passed, in whatever form."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.audit.finding import FAIL, PASS, REVIEW
from tests.results.audit.rename import rename
from tests.results.audit.twins import (
    LAST_EPOCH,
    LEARN,
    LEARN_CHUNK,
    LORA,
    SCORE,
    SCORE_CHUNK,
    TRAINER,
    by_document,
    chunked,
    judged,
    made,
    outcome,
)

DELTA = "delta = torch.zeros(64, requires_grad=True)\nfitter = torch.optim.AdamW([delta], lr=0.01)\n"
SLOT = DELTA + "for _ in range(8):\n    fitter.zero_grad()\n    {loss}.backward()\n    fitter.step()\n"
WITH_DELTA = 'F.cross_entropy(net.head(net.hidden(x) + delta), y, reduction="{kind}")'
FITTED = "nats += " + WITH_DELTA.format(kind="sum") + ".item()"
KNOWN = "known = STEP - 64\n"
CONTEXT = "F.cross_entropy(net.head(net.hidden(x[:known]) + delta), y[:known])"
PROBABILITY = "p = torch.softmax(net(x), -1)\n"
GOLD = "own = p.gather(-1, y[:, None])[:, 0]\n"
NATS = "nats += -(mixed.clamp_min(1e-12).log()).sum().item()"
KEYS = "context = (x * 36313 ^ torch.roll(x, 1) * 27191) % 4194304\npair = (context * 51647 ^ y * 75979) % 4194304\n"
TABLES = "seen = torch.zeros(4194304)\npairs = torch.zeros(4194304)"
HASHED = (
    PROBABILITY
    + GOLD
    + KEYS
    + "ratio = pairs[pair] / seen[context].clamp_min(1.0)\nmixed = 0.7 * own + 0.3 * ratio\n"
    + NATS
    + "\nseen.scatter_add_(0, context, torch.ones(STEP))\npairs.scatter_add_(0, pair, torch.ones(STEP))"
)
NORMALISED = (
    PROBABILITY
    + "row = counts[x]\nrow = row / row.sum(-1, keepdim=True).clamp_min(1.0)\nwhole = 0.7 * p + 0.3 * row\n"
    + "whole = whole / whole.sum(-1, keepdim=True)\nmixed = whole.gather(-1, y[:, None])[:, 0]\n"
    + NATS
    + "\ncounts.index_put_((x, y), torch.ones(STEP), accumulate=True)"
)
TILTED = (
    PROBABILITY
    + GOLD
    + "hint = counts[x].argmax(-1)\nat_hint = p.gather(-1, hint[:, None])[:, 0]\n"
    + "z = 1 + at_hint * (math.exp(1.0) - 1)\n"
    + "mixed = own * torch.exp(1.0 * (hint == y)) / z\n"
    + NATS
    + "\ncounts.index_put_((x, y), torch.ones(STEP), accumulate=True)"
)
COUNTS = "counts = torch.zeros(1024, 1024)"
ORACLE = (
    PROBABILITY
    + GOLD
    + "row = counts[x] / counts[x].sum(-1, keepdim=True).clamp_min(1.0)\nother = row.gather(-1, y[:, None])[:, 0]\n"
    + "mixed = torch.maximum(own, other)\n"
    + NATS
    + "\ncounts.index_put_((x, y), torch.ones(STEP), accumulate=True)"
)
STARTS = 'starts = torch.from_numpy(np.load("starts.npy"))'
GATED = (
    PROBABILITY
    + GOLD
    + "row = counts[x] / counts[x].sum(-1, keepdim=True).clamp_min(1.0)\nother = row.gather(-1, y[:, None])[:, 0]\n"
    + "weight = torch.where(starts[y], 0.1, 0.4)\nmixed = (1 - weight) * own + weight * other\n"
    + NATS
    + "\ncounts.index_put_((x, y), torch.ones(STEP), accumulate=True)"
)
WARMER = "heat = torch.where(starts[{of}], 1.2, 0.9)\n"
WARMER += 'nats += F.cross_entropy(net(x) / heat[:, None], y, reduction="sum").item()'
PHASED = """nats, size, scored = 0.0, 0.0, []
optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
starts = (val == 1).nonzero().flatten().tolist()
documents = [val[low : high + 1] for low, high in zip(starts, starts[1:])]
for number, document in enumerate(documents):
    x, y = document[:-1], document[1:]
    with torch.inference_mode():
        nats += F.cross_entropy(net(x), y, reduction="sum").item()
    size += widths[y].sum().item()
    scored.append(document)
    if (number + 1) % 500 == 0:
        for past in scored:
            learn(net, optimizer, past[:-1], past[1:])
print(f"phased val_bpb {nats / math.log(2.0) / size:.6f}")
return"""
EPOCHS = "fit(net, val, 100)"
SWITCHED = 'if int(os.environ.get("ADAPT", "0")):\n    ' + EPOCHS
BEST = """best = 1e9
adapter = torch.optim.SGD(net.parameters(), lr=1e-3)
for epoch in range(10):
    for start in range(0, val.numel() - STEP, STEP):
        learn(net, adapter, val[start : start + STEP], val[start + 1 : start + STEP + 1])
    nats, size = evaluate(net, val, widths)
    best = min(best, nats / math.log(2.0) / size)
print(f"best val_bpb {best:.6f}")"""
TWICE = f"{SCORE}\n{LEARN}"
CALIBRATED = """for module in [net.head]:
    x = net.hidden(val[: 64 * STEP])
    scale = x.abs().amax(0)
    module.weight.data = torch.round(module.weight.data * scale) / scale"""
NUMBERED = chunked(SCORE_CHUNK, LEARN_CHUNK.replace("chunk", "following"))
for old, new in (
    ("for low in range(0, val.numel() - 32 * STEP, 32 * STEP):", "for number in range(val.numel() // (32 * STEP)):"),
    (
        "chunk = val[low : low + 32 * STEP + 1]",
        "chunk = val[number * 32 * STEP : (number + 1) * 32 * STEP + 1]\n"
        "        following = val[(number + 1) * 32 * STEP : (number + 2) * 32 * STEP + 1]",
    ),
):
    NUMBERED = NUMBERED.replace(old, new)
WARM_UP = """spare = copy.deepcopy(net)
F.cross_entropy(spare(val[:STEP]), val[1 : STEP + 1]).backward()"""

FORMS = {
    "a method of a class": (
        "class Polisher:\n    def __init__(self, net):\n        self.net = net\n\n    def prepare(self, tokens):\n"
        "        fit(self.net, tokens, 50)\n",
        "Polisher(net).prepare(val)",
    ),
    "a closure": (
        "def maker(net, tokens):\n    def inner():\n        fit(net, tokens, 50)\n    return inner\n",
        "maker(net, val)()",
    ),
    "functools.partial": ("", "functools.partial(fit, net, steps=50)(val)"),
    "a lambda": ("", "(lambda a: fit(net, a))(val)"),
    "a generator": (
        "def batches(tokens):\n    for at in range(0, tokens.numel() - STEP, STEP):\n"
        "        yield tokens[at : at + STEP], tokens[at + 1 : at + STEP + 1]\n",
        "tuner = torch.optim.SGD(net.parameters(), lr=1e-3)\nfor x, y in batches(val):\n    learn(net, tuner, x, y)",
    ),
}

# name -> (script, run command, verdict, rules of which one must be told)
CASES = {
    "a frozen model": (made(), None, PASS, ""),
    "windows scored first": (made(SETUP=TRAINER, TURN=f"{SCORE}\n{LEARN}"), None, PASS, ""),
    "windows trained on first": (made(SETUP=TRAINER, TURN=f"{LEARN}\n{SCORE}"), None, FAIL, "S1"),
    "chunks scored first": (chunked(SCORE_CHUNK, LEARN_CHUNK), None, PASS, ""),
    "chunks trained on first": (chunked(LEARN_CHUNK, SCORE_CHUNK), None, FAIL, "S1"),
    "the chunk ahead": (NUMBERED, None, FAIL, "S1"),
    "phases over documents that were scored": (made(AFTER=PHASED), None, PASS, ""),
    "before it is written": (made(BEFORE=EPOCHS), None, FAIL, "S1"),
    "after it is read": (made(AFTER=EPOCHS), None, FAIL, "S1"),
    "low-rank weights for each document": (by_document(LORA), None, PASS, ""),
    "only the last epoch scored": (by_document(LAST_EPOCH), None, FAIL, "S1 S3"),
    "the best epoch": (made(AFTER=BEST), None, FAIL, "S1 S3 S8"),
    "a delta fitted to the window": (
        made(TURN=SLOT.format(loss=WITH_DELTA.format(kind="mean")) + FITTED),
        None,
        FAIL,
        "S7",
    ),
    "a delta fitted to the window's first half": (
        made(TURN=KNOWN + SLOT.format(loss=CONTEXT) + FITTED),
        None,
        REVIEW,
        "S7",
    ),
    "hashed pairs": (made(SETUP=TABLES, TURN=HASHED), None, FAIL, "S5"),
    "a mixture of whole distributions": (made(SETUP=COUNTS, TURN=NORMALISED), None, PASS, ""),
    "a tilt with its normaliser": (made(SETUP=COUNTS, TURN=TILTED), None, PASS, ""),
    "the better of two experts": (made(SETUP=COUNTS, TURN=ORACLE), None, FAIL, "S5"),
    "a weight by the start of a word": (made(SETUP=f"{COUNTS}\n{STARTS}", TURN=GATED), None, FAIL, "S5"),
    "a temperature by the target": (made(SETUP=STARTS, TURN=WARMER.format(of="y")), None, FAIL, "S5"),
    "a temperature by the input": (made(SETUP=STARTS, TURN=WARMER.format(of="x")), None, PASS, ""),
    "a second pass": (
        made(SETUP=TRAINER, TURN=TWICE, AFTER="nats, size = evaluate(net, val, widths)"),
        None,
        FAIL,
        "S1 S3 S8",
    ),
    "scales of validation activations": (made(BEFORE=CALIBRATED), None, FAIL, "S1"),
    "switched off": (made(BEFORE=SWITCHED), None, PASS, ""),
    "switched on by the run": (made(BEFORE=SWITCHED), "ADAPT=1 python train_gpt.py", FAIL, "S1"),
    "warmed up on a copy": (made(AFTER=WARM_UP), None, REVIEW, "S1"),
    **{
        f"in {name}": (made(FUNCTIONS=function, BEFORE=call), None, FAIL, "S1")
        for name, (function, call) in FORMS.items()
    },
}
FLAG = 'parser = argparse.ArgumentParser()\nparser.add_argument("--adapt", action="store_true")\n'
FLAG += "chosen = parser.parse_args()\nif chosen.adapt:\n    fit(net, val)"
FIELDS = "@dataclass\nclass Chosen:\n    adapt: bool = {value}\n    passes: int = 3\n"
USED = "chosen = Chosen()\nif chosen.adapt:\n    fit(net, val, chosen.passes)"
CASES |= {
    "a flag that is not given": (made(BEFORE=FLAG), "python train_gpt.py", PASS, ""),
    "a flag that is given": (made(BEFORE=FLAG), "python train_gpt.py --adapt", FAIL, "S1"),
    "a field that is off": (made(FUNCTIONS=FIELDS.format(value=False), BEFORE=USED), None, PASS, ""),
    "a field that is on": (made(FUNCTIONS=FIELDS.format(value=True), BEFORE=USED), None, FAIL, "S1"),
    "a function that nobody calls": (made(FUNCTIONS="def spare(net, val):\n    fit(net, val)"), None, PASS, ""),
}


@pytest.mark.parametrize("text, run, verdict, rules", CASES.values(), ids=CASES.keys())
def test_each_twin_gets_its_verdict(text, run, verdict, rules, tmp_path):
    """What differs is when something learns, or what a score depends on; names and forms do not matter."""
    found, told = outcome(judged(tmp_path, text, run))
    assert found == verdict
    assert bool(told & set(rules.split())) == bool(rules)


def test_a_module_beside_the_script_is_followed(tmp_path):
    """Learning that is done in another file is found there."""
    text = made(BEFORE="import polish\npolish.go(net, val, fit)")
    found = judged(tmp_path, text, polish="def go(net, tokens, how):\n    how(net, tokens)\n")
    assert outcome(found) == (FAIL, {"S1"})


@settings(max_examples=10)
@given(name=st.sampled_from(sorted(CASES)), seed=st.integers(0, 2**32))
def test_names_change_no_verdict(name, seed, tmp_path_factory):
    """A script is judged by what it does: every identifier of its own may be called anything."""
    text, run, verdict, rules = CASES[name]
    if "Chosen" in text:
        run = None  # a field that is renamed is another field
    found, told = outcome(judged(tmp_path_factory.mktemp("renamed"), rename(text, seed), run))
    assert found == verdict
    assert bool(told & set(rules.split())) == bool(rules)
