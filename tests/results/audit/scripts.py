"""A small training script of the race's kind, and ways to change it and to rename all of it."""

import ast
import builtins
import keyword

SCRIPT = """
import glob, io, math, os, subprocess, time, zlib
from pathlib import Path

import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F


class Hyperparameters:
    data_path = os.environ.get("DATA_PATH", "./data/fineweb10B_sp1024")
    train_files = os.path.join(data_path, "fineweb_train_*.bin")
    val_files = os.path.join(data_path, "fineweb_val_*.bin")
    tokenizer_path = os.environ.get("TOKENIZER_PATH", "./tokenizer.model")
    iterations = int(os.environ.get("ITERATIONS", 20000))
    max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 600.0))
    reserve_seconds = float(os.environ.get("RESERVE_SECONDS", 12.0))
    seq_len = 1024
    vocab_size = 1024


def build_luts(sp, vocab_size, device):
    size = max(int(sp.vocab_size()), vocab_size)
    base_bytes = np.zeros((size,), dtype=np.int16)
    has_space = np.zeros((size,), dtype=np.bool_)
    is_boundary = np.ones((size,), dtype=np.bool_)
    for token_id in range(int(sp.vocab_size())):
        if sp.is_control(token_id) or sp.is_unknown(token_id) or sp.is_unused(token_id):
            continue
        is_boundary[token_id] = False
        if sp.is_byte(token_id):
            base_bytes[token_id] = 1
            continue
        piece = sp.id_to_piece(token_id)
        if piece.startswith("\\u2581"):
            has_space[token_id] = True
            piece = piece[1:]
        base_bytes[token_id] = len(piece.encode("utf-8"))
    return torch.tensor(base_bytes), torch.tensor(has_space), torch.tensor(is_boundary)


def load_shard(path):
    return torch.from_numpy(np.fromfile(path, dtype="<u2", offset=1024).astype(np.int64))


class Loader:
    def __init__(self, pattern):
        self.files = sorted(glob.glob(pattern))
        self.tokens = load_shard(self.files[0])
        self.at = 0

    def next_batch(self, count):
        chunk = self.tokens[self.at : self.at + count + 1]
        self.at += count
        return chunk[:-1], chunk[1:]


def evaluate(model, tokens, luts, seq_len):
    base_bytes, has_space, is_boundary = luts
    loss_sum, count, byte_count = 0.0, 0, 0.0
    with torch.inference_mode():
        for start in range(0, tokens.numel() - seq_len, seq_len):
            x, y = tokens[start : start + seq_len], tokens[start + 1 : start + seq_len + 1]
            loss_sum += F.cross_entropy(model(x), y, reduction="sum").item()
            count += y.numel()
            n = base_bytes[y].to(torch.int16)
            n += (has_space[y] & ~is_boundary[x]).to(torch.int16)
            byte_count += n.sum().item()
    loss = loss_sum / count
    return loss, loss / math.log(2.0) * (count / byte_count)


def collect(model, loader, batches):
    sums = {}

    def hook(module, args, out):
        x = args[0]
        sums[module] = sums.get(module, 0) + x.T @ x

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    for _ in range(batches):
        x, _y = loader.next_batch(1024)
        model(x)
    return sums


def main():
    args = Hyperparameters()
    print(subprocess.run(["nvidia-smi"], capture_output=True).stdout)
    sp = spm.SentencePieceProcessor(model_file=args.tokenizer_path)
    luts = build_luts(sp, args.vocab_size, "cpu")
    tokens = torch.cat([load_shard(path) for path in sorted(glob.glob(args.val_files))])
    model = torch.nn.Sequential(torch.nn.Embedding(args.vocab_size, 64), torch.nn.Linear(64, args.vocab_size))
    optimizer = torch.optim.AdamW(model.parameters())
    loader = Loader(args.train_files)
    max_ms = 1000.0 * (args.max_wallclock_seconds - args.reserve_seconds)
    training_ms, stop_after, step = 0.0, None, 0
    t0 = time.perf_counter()
    while True:
        last = step == args.iterations or (stop_after is not None and step >= stop_after)
        if last or step % 1000 == 0:
            training_ms += 1000.0 * (time.perf_counter() - t0)
            loss, bpb = evaluate(model, tokens, luts, args.seq_len)
            print(f"step:{step} val_loss:{loss:.4f} val_bpb:{bpb:.4f}")
            t0 = time.perf_counter()
        if last:
            break
        x, y = loader.next_batch(65536)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        approx_ms = training_ms + 1000.0 * (time.perf_counter() - t0)
        if stop_after is None and approx_ms >= max_ms:
            stop_after = step
    sums = collect(model, loader, 16)
    blob = zlib.compress(str(sums).encode())
    Path("final_model.bin").write_bytes(blob)
    loss, bpb = evaluate(model, tokens, luts, args.seq_len)
    print(f"final val_loss:{loss:.8f} val_bpb:{bpb:.8f}")


if __name__ == "__main__":
    main()
"""


def changed(*pairs: tuple[str, str], script: str = SCRIPT) -> str:
    """The script with texts in it replaced, each of which must be there."""
    for old, new in pairs:
        assert old in script, old
        script = script.replace(old, new)
    return script


class _Renamed(ast.NodeTransformer):
    """Every name of the script's own as one that says nothing; names of libraries stay: no script can change them."""

    def __init__(self, own: set[str]) -> None:
        self.names = {name: f"q{number}" for number, name in enumerate(sorted(own))}

    def visit(self, node: ast.AST) -> ast.AST:
        for name in ("id", "arg", "name", "asname", "attr"):
            old = getattr(node, name, None)
            if isinstance(old, str) and old in self.names and not isinstance(node, ast.alias):
                setattr(node, name, self.names[old])
        return self.generic_visit(node)


def renamed(script: str) -> str:
    """The script with every identifier of its own renamed, comments and blank lines gone."""
    tree = ast.parse(script)
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.id if isinstance(node, ast.Name) else node.attr)
    imported = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    named = {one.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for one in node.keywords if one.arg}
    kept = imported | named | set(dir(builtins)) | set(keyword.kwlist) | {"__init__", "forward"}
    return ast.unparse(_Renamed(own - kept).visit(tree))
