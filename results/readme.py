"""README.md of a submission folder, from numbers alone."""

import json
import typing
from collections.abc import Mapping

from golf_core.rundir import BUNDLE, SEAL, file_sha256
from results.bundle_config import frozen_config
from results.collect import Collected
from results.dataset import data_warning
from results.tables import LEGEND, SIMULATED, bits, gate_cells, markdown_table, megabytes, seed_cells, spread_lines

NOTHING = "-"


def readme_text(found: Collected, facts: Mapping[str, typing.Any], requirements: str) -> str:
    sections = [
        f"# {facts['name']}",
        SIMULATED if found.spec.target_class == "simulated" else "",
        headline(facts, data_warning(found.rows)),
        facts["data"],
        by_whom(facts),
        "## Results",
        markdown_table(seed_cells(found.rows)) + "\n" + LEGEND,
        "\n".join(f"- {line}" for line in spread_lines(found.rows)),
        "Every registered seed is in this table.",
        "## Stages",
        markdown_table(stage_cells(found)),
        "## What is new",
        what_is_new(found),
        "## Run it",
        run_command(found),
        "## Timing and size budget",
        f"Policy `{found.spec.policy_name}`; each gate takes the largest seed, and for times the larger of two clocks.",
        markdown_table(gate_cells(found.gates)),
        "## Requirements",
        f"Python {facts['python_version'] or '3.11 or newer'}:\n\n```\n{requirements}```",
        "## Evidence",
        "The counted attempt of each seed, the SHA-256 of its seal and of its artifact. The log is the attempt's own.",
        markdown_table(evidence_cells(found)),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def headline(facts: Mapping[str, typing.Any], warning: str) -> str:
    """**val_bpb: 1.06108** (3-seed mean, sample sd 0.00090) | **15.9 MB** | hardware."""
    spread = "" if facts["val_bpb_std"] is None else f", sample sd {facts['val_bpb_std']:.5f}"
    size = megabytes(facts["bytes_total"])
    seeds = len(facts["seeds"])
    what = f"{seeds}-seed mean{spread}" if seeds > 1 else "1 seed"
    of = f" | **{warning}**" if warning else ""
    return f"**val_bpb: {facts['val_bpb']:.5f}** ({what}){of} | **{size}** (largest seed) | {facts['hardware']}"


def by_whom(facts: Mapping[str, typing.Any]) -> str:
    if facts["gaps"]:
        return "Still to be told: " + "; ".join(facts["gaps"]) + "."
    return f"By {facts['author']} (@{facts['github_id']})."


def stage_cells(found: Collected) -> list[list[str]]:
    """Each stage apart, never mixed: raw weights, quantized, sliding, after test-time training; and both times."""
    columns = ("pre_quant_bpb", "roundtrip_bpb", "sliding_bpb", "ttt_bpb", "val_loss")
    cells = [
        ["Seed", "Pre-quant BPB", "Quantized BPB", "Sliding BPB", "TTT BPB", "val_loss", "Train s", "Eval s", "Bytes"]
    ]
    for row in found.rows:
        scores = [NOTHING if (value := getattr(row, name)) is None else bits(value) for name in columns]
        times = [NOTHING if value is None else f"{value:.3f}" for value in (row.train_seconds, row.evaluate_seconds)]
        size = NOTHING if row.artifact_bytes is None else f"{row.artifact_bytes:,}"
        cells.append([str(row.seed), *scores, *times, size])
    return cells


def what_is_new(found: Collected) -> str:
    """The recipe as it ran; what it changes against other work is for its author to say."""
    spec = found.spec
    changed = ", ".join(f"`{one}`" for one in spec.overrides) or "none"
    config = frozen_config((spec.folder / BUNDLE).read_text(encoding="utf-8", errors="replace"))
    if config is None:
        return (
            f"`train_gpt.py` is not a bundle of a recipe: it has no `CONFIG = Config(...)` of plain values. "
            f"It was submitted by hand under the recipe name `{spec.recipe}`, overrides: {changed}."
        )
    said = f"Recipe `{spec.recipe}`, overrides: {changed}."
    if config != spec.config:
        said += (
            " The bundle was edited by hand: its config is not the one that recipe and overrides gave (in spec.json)."
        )
    if config.get("ship") == "packed":
        said += f" `{BUNDLE}` is packed: `python {BUNDLE} source` prints the source that it runs."
    shown = json.dumps(config, indent=1, ensure_ascii=False)
    return f"{said} Frozen in `train_gpt.py`:\n\n```json\n{shown}\n```"


def run_command(found: Collected) -> str:
    """What reproduces a seed from this folder."""
    target = found.spec.target
    start = "python" if target.get("launcher") == "python" else "torchrun --standalone"
    processes = "" if start == "python" else f" --nproc_per_node={target.get('processes')}"
    threads = f"CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS={target.get('threads')} " if target.get("device") == "cpu" else ""
    lines = [
        f"{threads}SEED={row.seed} DATA_PATH=<shards> TOKENIZER_PATH=<tokenizer.model> {start}{processes} train_gpt.py "
        f"--dtype {target.get('dtype')}"
        for row in found.rows
    ]
    return "```bash\n" + "\n".join(lines) + "\n```"


def evidence_cells(found: Collected) -> list[list[str]]:
    cells = [["Seed", "Attempt", "Seal", "Artifact", "Log"]]
    for row in found.rows:
        seal = file_sha256(found.evidence[row.seed].folder / SEAL)
        cells.append(
            [str(row.seed), str(row.attempt_id), f"`{seal}`", f"`{row.artifact_sha256}`", f"train_seed{row.seed}.log"]
        )
    return cells
