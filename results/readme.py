"""README.md of a submission folder, from numbers alone."""

import json
import shlex
import typing
from collections.abc import Mapping, Sequence

from golf_core.policy import PRACTISED, WRITTEN, load_policy
from golf_core.rundir import BUNDLE, SEAL, file_sha256
from results.base import base_of, differences
from results.budget import headroom_cells, phase_cells
from results.bundle_config import frozen_config
from results.claims import judge_rows
from results.collect import Collected
from results.dataset import data_warning
from results.other_seeds import line_of
from results.rows import Row
from results.tables import (
    LEGEND,
    NOTHING,
    OF_SCRIPT,
    SIMULATED,
    bits,
    gate_cells,
    markdown_table,
    megabytes,
    seed_cells,
    spread_lines,
)
from results.tried import Tried


def readme_text(
    found: Collected, facts: Mapping[str, typing.Any], requirements: str, tried: Sequence[Tried] = ()
) -> str:
    sections = [
        f"# {facts['name']}",
        SIMULATED if found.spec.target_class == "simulated" else "",
        OF_SCRIPT if found.spec.script is not None else "",
        headline(facts, data_warning(found.rows)),
        facts["data"],
        by_whom(facts),
        "## Results",
        markdown_table(seed_cells(found.rows)) + "\n" + LEGEND,
        "\n".join(f"- {line}" for line in spread_lines(found.rows)),
        "Every registered seed is in this table.",
        f"{line_of(found.others)}." if found.others else "",
        "## Against the frontier",
        "\n".join(f"- {line}" for line in statistics_lines(found.rows)),
        "## Stages",
        markdown_table(stage_cells(found)),
        "## Key changes",
        key_changes(found),
        *tried_sections(tried),
        "## Run it",
        run_command(found),
        "## Timing and size budget",
        f"Policy `{found.spec.policy_name}`; each gate takes the largest seed, and for times the larger of two clocks.",
        markdown_table(gate_cells(found.gates)),
        "What is left under the caps; a negative number is over.",
        markdown_table(headroom_cells(found)),
        *phase_sections(found),
        "## Requirements",
        f"Python {facts['python_version'] or '3.11 or newer'}"
        + (f":\n\n```\n{requirements}```" if requirements else ", and nothing beyond its standard library."),
        "## Evidence",
        "The counted attempt of each seed, the SHA-256 of its seal and of its artifact. The log is the attempt's own.",
        markdown_table(evidence_cells(found)),
        "## Credits",
        "\n".join(f"- {line}" for line in credit_lines(found)),
    ]
    return "\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def headline(facts: Mapping[str, typing.Any], warning: str) -> str:
    """**val_bpb: 1.06108** (3-seed mean, sample sd 0.00090) | **15.9 MB** | hardware."""
    spread = "" if facts["val_bpb_std"] is None else f", sample sd {facts['val_bpb_std']:.5f}"
    size = "" if facts["bytes_total"] is None else f" | **{megabytes(facts['bytes_total'])}** (largest seed)"
    seeds = len(facts["seeds"])
    what = f"{seeds}-seed mean{spread}" if seeds > 1 else "1 seed"
    of = f" | **{warning}**" if warning else ""
    return f"**val_bpb: {facts['val_bpb']:.5f}** ({what}){of}{size} | {facts['hardware']}"


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


def statistics_lines(rows: Sequence[Row]) -> list[str]:
    """Both rules of the race, by name, each with its verdict: the written one and the practised one."""
    lines = []
    other = data_warning(rows)
    for name in (WRITTEN, PRACTISED):
        policy = load_policy(name)
        if policy.claim is not None and other:
            lines.append(f"`{name}` ({policy.claim.describe()}): **unknown**, the text: {other}")
        elif policy.claim is not None:
            judged = judge_rows(rows, policy.to_dict(), policy.claim, policy.seeds)
            lines.append(
                f"`{name}` ({policy.claim.describe()}, against {judged.against}): **{judged.verdict}**, {judged.reason}"
            )
    return lines


def key_changes(found: Collected) -> str:
    """The config that ran, field by field, where it is not that of what was registered as its base."""
    spec = found.spec
    if spec.script is not None:
        told = ", ".join(f"`{name}={value}`" for name, value in spec.script.environment.items()) or "none"
        return (
            f"`{BUNDLE}` is a script that was run as it was given, under the name `{spec.recipe}`; what it changes "
            f"against other work is for its author to say. Its environment: {told}."
        )
    changed = ", ".join(f"`{one}`" for one in spec.overrides) or "none"
    config = frozen_config((spec.folder / BUNDLE).read_text(encoding="utf-8", errors="replace"))
    if config is None:
        return (
            f"`{BUNDLE}` is not a bundle of a recipe: it has no `CONFIG = Config(...)` of plain values. "
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
    whole = f"All that is frozen in `{BUNDLE}`:\n\n```json\n{shown}\n```"
    return "\n\n".join([said, _against_base(found, config), whole])


def _against_base(found: Collected, config: Mapping[str, typing.Any]) -> str:
    if (base := base_of(found.spec)) is None:
        return "What the recipe is without the overrides was not registered with this submission."
    changes = differences(base.config, config)
    if not changes:
        return f"No field differs from `{base.recipe}` as it was registered."
    cells = [["Field", base.recipe, "here"], *([f"`{path}`", theirs, ours] for path, theirs, ours in changes)]
    return f"Against `{base.recipe}` as it was registered:\n\n{markdown_table(cells)}".rstrip("\n")


def tried_sections(tried: Sequence[Tried]) -> list[str]:
    """What was worse, of the same base, data and target, from sealed attempts."""
    if not tried:
        return []
    cells = [["Tried", "n", "Mean BPB", "Delta to this", "95 % interval", "Submission"]]
    for one in tried:
        half = NOTHING if one.half_width is None else f"\u00b1 {one.half_width:.8f}"
        count = str(one.n) if one.n == one.seeds else f"{one.n} of {one.seeds}"
        cells.append([f"`{one.what}`", count, bits(one.val_bpb), f"{one.delta_bpb:+.8f}", half, one.submission_id[:12]])
    told = "Other submissions of the same base, data and target that scored worse; positive is worse than this one."
    return ["## Tried and not kept", told, markdown_table(cells)]


def phase_sections(found: Collected) -> list[str]:
    cells = phase_cells(found)
    return ["Seconds of each phase, as the worker stamped them:", markdown_table(cells)] if cells else []


def credit_lines(found: Collected) -> list[str]:
    """Where the values come from, as far as it was registered."""
    spec, lines = found.spec, []
    if spec.script is not None:
        lines.append(f"`{BUNDLE}`: its author's; this folder was made of its runs.")
    elif (base := base_of(spec)) is not None:
        lines.append(f"Recipe `{base.recipe}`: {base.source}.")
    if spec.published is not None:
        lines.append(f"Published for the recipe: {spec.published['source']} ({spec.published['status']}).")
    return [*lines, "Run, collected and packed by golf-orchestrator; no number here was typed."]


def run_command(found: Collected) -> str:
    """What reproduces a seed from this folder."""
    spec, target = found.spec, found.spec.target
    start = "python" if target.get("launcher") == "python" else "torchrun --standalone"
    processes = "" if start == "python" else f" --nproc_per_node={target.get('processes')}"
    threads = f"CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS={target.get('threads')} " if target.get("device") == "cpu" else ""
    paths = "DATA_PATH=<shards> TOKENIZER_PATH=<tokenizer.model>"
    if spec.script is None:
        lines = [
            f"{threads}SEED={row.seed} {paths} {start}{processes} {BUNDLE} --dtype {target.get('dtype')}"
            for row in found.rows
        ]
        return "```bash\n" + "\n".join(lines) + "\n```"
    exported = [f"export {name}={shlex.quote(value)}" for name, value in spec.script.environment.items()]
    lines = [f"{threads}SEED={row.seed} {paths} {start}{processes} {BUNDLE}" for row in found.rows]
    return "```bash\n" + "\n".join([*exported, *lines]) + "\n```"


def evidence_cells(found: Collected) -> list[list[str]]:
    cells = [["Seed", "Attempt", "Seal", "Artifact", "Log"]]
    for row in found.rows:
        seal = file_sha256(found.evidence[row.seed].folder / SEAL)
        cells.append(
            [
                str(row.seed),
                str(row.attempt_id),
                f"`{seal}`",
                NOTHING if row.artifact_sha256 is None else f"`{row.artifact_sha256}`",
                f"train_seed{row.seed}.log",
            ]
        )
    return cells
