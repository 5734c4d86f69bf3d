"""The rules that follow no data: bytes, access, clocks; each fault found, its legal twin passed, under any names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.audit.finding import FAIL, PASS, REVIEW, gravest
from results.audit.rules import s9_bytes, s10_access, s11_clock, size
from results.audit.source import Limits, read_program
from tests.results.audit.scripts import SCRIPT, changed, renamed

RULES = {"S9": s9_bytes.check, "S10": s10_access.check, "S11": s11_clock.check}
COUNT = 'base_bytes[token_id] = len(piece.encode("utf-8"))'
ADD = "n += (has_space[y] & ~is_boundary[x]).to(torch.int16)"
DIVIDE = "return loss, loss / math.log(2.0) * (count / byte_count)"
PIECE = 'if piece.startswith("\\u2581"):\n            has_space[token_id] = True\n            piece = piece[1:]'
RESERVE = '"RESERVE_SECONDS", 12.0'
CLOCK = "        optimizer.step()\n        step += 1\n"
PAUSE = "training_ms += 1000.0 * (time.perf_counter() - t0)\n        loss.backward()\n        optimizer.step()\n"

FAULTS = {
    "the space twice": ("S9", FAIL, [(COUNT, COUNT + " + has_space[token_id]")]),
    "one more for every piece": ("S9", FAIL, [(COUNT, COUNT + " + 1")]),
    "the space as it is written": (
        "S9",
        FAIL,
        [("piece = piece[1:]", 'piece = piece.replace("\\u2581", " ")')],
    ),
    "the mark as three bytes": ("S9", FAIL, [("            piece = piece[1:]\n", "")]),
    "characters by a function for each piece": (
        "S9",
        FAIL,
        [
            (COUNT, "base_bytes[token_id] = length(sp, token_id)"),
            ("def build_luts(", "def length(t, n):\n    p = t.id_to_piece(n)\n    return len(p)\n\n\ndef build_luts("),
            (PIECE, "has_space[token_id] = length(sp, token_id) and sp.id_to_piece(token_id)[0] == '\\u2581'"),
        ],
    ),
    "byte tokens as three": ("S9", FAIL, [("base_bytes[token_id] = 1", "base_bytes[token_id] = 3")]),
    "byte tokens by their text": ("S9", FAIL, [("if sp.is_byte(token_id):", "if False:")]),
    "control tokens counted": ("S9", FAIL, [("sp.is_control(token_id) or ", "")]),
    "characters": ("S9", FAIL, [('len(piece.encode("utf-8"))', "len(piece)")]),
    "a constant ratio": ("S9", FAIL, [(DIVIDE, "return loss, loss / math.log(2.0) / 2.4412")]),
    "a ratio of the environment": (
        "S9",
        FAIL,
        [(DIVIDE, 'ratio = float(os.environ.get("RATIO", "0.41"))\n    return loss, loss * 1.442695 * ratio')],
    ),
    "no bytes anywhere": (
        "S9",
        REVIEW,
        [
            (DIVIDE, "return loss, loss / math.log(2.0) / byte_count"),
            ('    luts = build_luts(sp, args.vocab_size, "cpu")\n', "    luts = np.load('meta.npz')\n"),
            (SCRIPT[SCRIPT.index("def build_luts") : SCRIPT.index("def load_shard")], ""),
            ("str(sums).encode()", "bytes(sums)"),
        ],
    ),
    "a download": (
        "S10",
        REVIEW,
        [
            (
                "    args = Hyperparameters()\n",
                "    args = Hyperparameters()\n    import requests as r\n    r.get('https://x')\n",
            )
        ],
    ),
    "a program that downloads": ("S10", REVIEW, [('["nvidia-smi"]', '["curl", "-O", "https://x"]')]),
    "a checkpoint from a hub": (
        "S10",
        REVIEW,
        [
            ("import torch\n", "import torch\nfrom huggingface_hub import hf_hub_download as get\n"),
            ("    args = Hyperparameters()\n", "    args = Hyperparameters()\n    get('a/b', 'c.bin')\n"),
        ],
    ),
    "all shards for training": ("S10", FAIL, [("fineweb_train_*.bin", "fineweb_*_*.bin")]),
    "ten thousand documents": (
        "S10",
        FAIL,
        [
            (
                "def main():\n",
                "def main():\n    import argparse\n    p = argparse.ArgumentParser()\n"
                "    p.add_argument('--val-docs', type=int, default=10000)\n",
            )
        ],
    ),
    "a secret": (
        "S10",
        REVIEW,
        [("    args = Hyperparameters()\n", "    args = Hyperparameters()\n    k = os.environ.get('AWS_SECRET')\n")],
    ),
    "sidecars taken for tokens": (
        "S10",
        REVIEW,
        [("    args = Hyperparameters()\n", "    args = Hyperparameters()\n    side = 'fineweb_val_bytes_*.bin'\n")],
    ),
    "calibration after the cap": ("S11", FAIL, [(RESERVE, '"RESERVE_SECONDS", 0.0')]),
    "calibration and no reserve at all": (
        "S11",
        REVIEW,
        [("(args.max_wallclock_seconds - args.reserve_seconds)", "args.max_wallclock_seconds")],
    ),
    "a longer cap": ("S11", REVIEW, [('"MAX_WALLCLOCK_SECONDS", 600.0', '"MAX_WALLCLOCK_SECONDS", 660.0')]),
    "a step to stop at": (
        "S11",
        FAIL,
        [("    seq_len = 1024\n", '    seq_len = 1024\n    force = int(os.environ.get("FORCE_STOP_STEP", "4950"))\n')],
    ),
    "a clock that stands still": (
        "S11",
        FAIL,
        [("        loss.backward()\n        optimizer.step()\n", f"        {PAUSE}        t0 = time.perf_counter()\n")],
    ),
}
LEGAL = {
    "as it is": [],
    "the space in the table alone": [
        ("piece = piece[1:]", 'piece = piece.replace("\\u2581", " ")'),
        (ADD, "pass"),
    ],
    "written with lists": [
        ("np.zeros((size,), dtype=np.int16)", "[0] * size"),
        ("torch.tensor(base_bytes)", "torch.tensor(base_bytes, dtype=torch.int16)"),
    ],
    "by a function for each piece": [
        (COUNT, "base_bytes[token_id] = length(piece)"),
        (
            "def build_luts(",
            "MARK = '\\u2581'\n\n\ndef length(p):\n    return len(p.lstrip(MARK).encode())\n\n\ndef build_luts(",
        ),
    ],
    "unused pieces not asked for": [(" or sp.is_unused(token_id)", "")],
    "older names of the tokenizer": [("sp.is_byte(", "sp.IsByte("), ("sp.id_to_piece(", "sp.IdToPiece(")],
    "a download that nothing calls": [
        ("def main():\n", "def fetch():\n    import requests\n    requests.get('x')\n\n\ndef main():\n")
    ],
    "a download behind a settled switch": [
        ("    seq_len = 1024\n", '    seq_len = 1024\n    fetch = bool(int(os.environ.get("FETCH", "0")))\n'),
        (
            "    args = Hyperparameters()\n",
            "    args = Hyperparameters()\n    if args.fetch:\n        os.system('wget x')\n",
        ),
    ],
    "a compressor of the system": [('["nvidia-smi"]', '["lrzip", "-f", "x"]')],
    "sidecars filtered": [
        ("sorted(glob.glob(args.val_files))", "[p for p in glob.glob(args.val_files) if '_bytes_' not in p]"),
        ("    args = Hyperparameters()\n", "    args = Hyperparameters()\n    side = 'fineweb_val_bytes_*.bin'\n"),
    ],
    "a shorter cap for the rest": [
        ("(args.max_wallclock_seconds - args.reserve_seconds)", "args.max_wallclock_seconds"),
        ('"MAX_WALLCLOCK_SECONDS", 600.0', '"MAX_WALLCLOCK_SECONDS", 588.0'),
    ],
    "no calibration": [
        ("    sums = collect(model, loader, 16)\n", "    sums = 1\n"),
        (RESERVE, '"RESERVE_SECONDS", 0.0'),
    ],
    "a forced step that is off": [
        ("    seq_len = 1024\n", '    seq_len = 1024\n    force = int(os.environ.get("FORCE_STOP_STEP", "0"))\n'),
    ],
}


def findings(folder, script, rule=None, **variables):
    path = folder / "train_gpt.py"
    path.write_text(script)
    program = read_program(path, Limits())
    checks = RULES.values() if rule is None else [RULES[rule]]
    return [one for check in checks for one in check(program, variables)]


@pytest.mark.parametrize("rule, verdict, pairs", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found(rule, verdict, pairs, tmp_path):
    """By its rule, with its line and that line's text."""
    bad = [one for one in findings(tmp_path, changed(*pairs), rule) if one.verdict != PASS]
    assert gravest(bad) == verdict and all(one.line and one.evidence for one in bad)


@pytest.mark.parametrize("rule, verdict, pairs", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_found_under_any_names(rule, verdict, pairs, tmp_path):
    """Every identifier of the script's own renamed: the same verdict, by that rule alone."""
    bad = [one for one in findings(tmp_path, renamed(changed(*pairs))) if one.verdict != PASS]
    assert {one.rule for one in bad} == {rule} and gravest(bad) == verdict, bad


@pytest.mark.parametrize("pairs", LEGAL.values(), ids=LEGAL.keys())
def test_a_legal_twin_passes_under_any_names(pairs, tmp_path):
    """No rule objects; the byte table was found and tried."""
    found = findings(tmp_path, renamed(changed(*pairs)))
    assert [one for one in found if one.verdict != PASS] == []
    assert any(one.rule == "S9" for one in found)


def test_the_script_passes_as_it_is_written(tmp_path):
    """And what its rules saw is told: the table, the time kept for calibration."""
    found = findings(tmp_path, SCRIPT)
    assert gravest(found) == PASS
    assert any("16 pieces" in one.says for one in found) and any("12 s kept" in one.says for one in found)


def test_the_run_command_settles_what_counts(tmp_path):
    """A variable of the command changes a default, both ways."""
    longer = findings(tmp_path, SCRIPT, "S11", MAX_WALLCLOCK_SECONDS="900")
    assert gravest(longer) == FAIL and any("900" in one.says for one in longer)
    none_kept = changed((RESERVE, '"RESERVE_SECONDS", 0.0'))
    assert gravest(findings(tmp_path, none_kept, "S11", RESERVE_SECONDS="14")) == PASS
    assert gravest(findings(tmp_path, SCRIPT, "S11", RESERVE_SECONDS="0")) == FAIL


PIECES = [
    'piece.removeprefix("\\u2581")',
    'piece[1:] if piece[0] == "\\u2581" else piece',
    'piece.replace("\\u2581", "")',
]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(PIECES), st.integers(0, 3), st.integers(0, 3))
def test_only_right_counts_pass(tmp_path_factory, piece, extra, of_bytes):
    """Any way to take the mark off passes; any number of bytes too many does not."""
    lines = f'if piece.startswith("\\u2581"):\n            has_space[token_id] = True\n        piece = {piece}'
    script = changed(
        (PIECE, lines),
        (COUNT, f"{COUNT} + {extra} * has_space[token_id]"),
        ("base_bytes[token_id] = 1", f"base_bytes[token_id] = {of_bytes}"),
    )
    found = findings(tmp_path_factory.mktemp("s"), script, "S9")
    assert gravest(found) == (PASS if extra == 0 and of_bytes == 1 else FAIL)


def test_what_counts_as_code_is_told(tmp_path):
    """The file, and modules beside it."""
    (tmp_path / "train_gpt.py").write_text("import torch\nimport other\n")
    (tmp_path / "other.py").write_text("x = 1\n")
    (found,) = size.check(read_program(tmp_path, Limits()))
    assert found.verdict == PASS and "26 bytes" in found.says and "other.py" in found.says
