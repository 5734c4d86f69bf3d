"""A grid: the variants of one question, planned together and run one after another by one command.

Each variant is a submission of its own, resumable by itself or by the same command again.
"""

import json
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from golf_core.recipes import Grid
from orchestrator.errors import UsageError
from orchestrator.gpu_request import is_asked
from orchestrator.gpus import installed_gpus
from orchestrator.outcome import Outcome, worst
from orchestrator.plan import Line, Plan, lines
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS


def settings_of_grid(grid: Grid, settings: Settings, bundle: Path | None) -> Settings:
    """Device and processes that the grid is meant for, where nobody gave others."""
    if bundle is not None:
        raise UsageError(
            f"--bundle {bundle} is one program, and {grid.name} is a grid of {len(grid.recipes)}; "
            f"name one of them in a file of yours (--recipe ./mine.py:function), or leave --bundle out"
        )
    model, _, count = grid.target.partition(":")
    if model == "cpu":
        return settings
    source = f"grid {grid.name}"
    settings = settings.with_default("device", "cuda", source)
    if settings["device"] != "cuda":
        return settings
    if settings.source("device") == source and settings["gpus"] is None and not installed_gpus():
        raise UsageError(
            f"grid {grid.name} is meant for {grid.target}, and there is no GPU here; "
            f"`--device cpu --set train.iterations=20 ...` tries a small form of it on this CPU"
        )
    if is_asked(settings):
        return settings  # a process for each GPU that was asked for
    return settings.with_default("processes", int(count or "1"), source)


def plan_lines(rows: Sequence[Line], plan: Plan) -> list[str]:
    """A plan, or what is its own in it: a line a setting, then a line a seed."""
    text = [f"{name:<12} {value}  [{source}]" for name, value, source in rows]
    return text + [f"  seed {planned.run.seed:<10} {planned.what}" for planned in plan.runs]


def grid_lines(grid: Grid, plans: Sequence[Plan], settings: Settings) -> list[str]:
    """What all variants share once, then each with what is its own."""
    each = [lines(plan, settings) for plan in plans]
    shared = [line for line in each[0] if all(line in other for other in each)]
    text = [f"{'grid':<12} {grid.name}: {grid.summary}  [{settings.source('recipe')}]"]
    text += [f"{name:<12} {value}  [{source}]" for name, value, source in shared]
    for number, (plan, own) in enumerate(zip(plans, each, strict=True), 1):
        text += ["", variant_heading(plan, number, len(plans))]
        text += plan_lines([line for line in own if line not in shared], plan)
    return [*text, ""]


def variant_heading(plan: Plan, number: int, count: int) -> str:
    return f"variant {number} of {count}: {plan.submission.recipe}"


def grid_plan(grid: Grid, plans: Sequence[Plan]) -> dict[str, typing.Any]:
    """The plan of a grid for --dry-run --json."""
    return {
        "schema_version": 1,
        "grid": grid.name,
        "summary": grid.summary,
        "source": grid.source,
        "meant_for": grid.target,
        "plans": [plan.to_dict() for plan in plans],
    }


def tell_grid(grid: Grid, plans: Sequence[Plan], outcomes: Sequence[Outcome], as_json: bool, quiet: bool) -> None:
    """At the end, or where it was cut off: a line a variant, with its mean or its state."""
    ended = {outcome.submission.submission_id: outcome for outcome in outcomes}
    found = [(plan.submission, ended.get(plan.submission.submission_id)) for plan in plans]
    if as_json:
        told = [
            {"recipe": submission.recipe, "submission_id": submission.submission_id}
            if outcome is None
            else {"recipe": submission.recipe, "mean_bpb": outcome.mean_bpb} | outcome.to_dict()
            for submission, outcome in found
        ]
        code = worst(outcome.exit_code for outcome in outcomes) if len(outcomes) == len(plans) else None
        print(json.dumps({"schema_version": 1, "grid": grid.name, "exit_code": code, "submissions": told}))
        return
    width = max(len(submission.recipe) for submission, _ in found)
    for submission, outcome in found:
        what = outcome.describe() if outcome is not None else "not ended; the same submit goes on with it"
        short = submission.submission_id[:SUBMISSION_DIGITS]
        line = f"{submission.recipe:<{width}}  {short}  {what}"
        print(submission.submission_id if quiet else line, file=sys.stdout)
