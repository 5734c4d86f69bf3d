"""Errors that end a command, each with its exit code. The message holds value, place, alternatives, next step.

* CommandError
  - UsageError      2  what was asked for cannot be: flag, file, recipe, seeds, folder
  - BudgetRefused   6  it could cost more than is left of the budget
  - BackendFailure  5  where the runs should execute failed, or another controller took over
"""

OK, FAILED, USAGE, NOT_FINISHED, GATE, BACKEND, BUDGET, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130

EXIT_CODES = (
    "Exit codes: 0 ok · 1 a run failed · 2 usage · 3 not finished · 4 a gate failed (python -m results verify) · "
    "5 backend or infrastructure · 6 budget refused · 130 interrupted"
)


class CommandError(Exception):
    exit_code = BACKEND


class UsageError(CommandError):
    exit_code = USAGE


class BackendFailure(CommandError):
    exit_code = BACKEND


class BudgetRefused(CommandError):
    exit_code = BUDGET
