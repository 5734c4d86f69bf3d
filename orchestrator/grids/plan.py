"""A grid's plan: the variants of one question, planned together; and at the end a line for each.

Each variant is a submission of its own, resumable by itself or by the same command again.
"""

import json
import sys
import typing
from collections.abc import Sequence
from pathlib import Path

from golf_core.recipes import Grid
from orchestrator.errors import UsageError
from orchestrator.hardware.gpus import installed_gpus
from orchestrator.hardware.request import is_asked
from orchestrator.money.cost import usd
from orchestrator.outcome import Outcome, worst
from orchestrator.plan import Line, Plan, lines, plan_lines
from orchestrator.settings import Settings
from orchestrator.spec import SUBMISSION_DIGITS

SHOWN_WHOLE = 12  # variants; of more, each has a line
IN_SHORT = ("submission", "recipe", "bundle", "parameters", "size", "cost", "rehearsal")  # what that line tells or sums


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


def grid_lines(grid: Grid, plans: Sequence[Plan], settings: Settings) -> list[str]:
    """What all variants share once, how much it is together, then each with what is its own."""
    each = [lines(plan, settings) for plan in plans]
    shared = [line for line in each[0] if all(line in other for other in each)]
    together = [("grid", f"{grid.name}: {grid.summary}", settings.source("recipe")), *_together(plans)]
    text = [f"{name:<12} {value}  [{source}]" for name, value, source in together + shared]
    width = max(len(plan.submission.recipe) for plan in plans)
    for number, (plan, own) in enumerate(zip(plans, each, strict=True), 1):
        its = [line for line in own if line not in shared]
        if len(plans) <= SHOWN_WHOLE:
            text += ["", variant_heading(plan, number, len(plans)), *plan_lines(its, plan)]
        else:
            text += [""] * (number == 1) + [_in_short(plan, width)]
            text += [f"  {name}: {value}" for name, value, _ in its if name not in IN_SHORT]
    return [*text, ""]


def _together(plans: Sequence[Plan]) -> list[Line]:
    """How many runs, and what they cost."""
    runs = [planned for plan in plans for planned in plan.runs]
    done = sum(planned.done for planned in runs)
    seeds = len(plans[0].runs)
    each = f"{len(plans)} variants x {seeds} seed{'s' if seeds > 1 else ''}"
    rows: list[Line] = [
        ("runs", f"{each} = {len(runs):,} runs" + (f", {done:,} of them done" if done else ""), "counted")
    ]
    paid = [plan.cost for plan in plans if not plan.cost.free]
    expected, worst_case = ([getattr(one, name) for one in paid] for name in ("expected_usd", "worst_usd"))
    if paid and None not in expected + worst_case:
        rows.append(("cost of all", f"{usd(sum(expected))} expected, {usd(sum(worst_case))} at worst", "their sum"))
    return rows


def _in_short(plan: Plan, width: int) -> str:
    """A variant in a line, where there are many."""
    submission, done = plan.submission, sum(planned.done for planned in plan.runs)
    parts = [f"{submission.recipe:<{width}}", submission.submission_id[:SUBMISSION_DIGITS]]
    if plan.size is not None:
        parts.append(f"{plan.size.parameters:,} parameters, {plan.size.verdict}")
    left = [planned.what for planned in plan.runs if planned.what.startswith(("nothing", "running"))]
    parts += [f"{done} of {len(plan.runs)} done"] * bool(done) + left
    return "  ".join(parts)


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
