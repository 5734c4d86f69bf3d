"""Errors that end a command, each with its exit code. The message holds value, place, alternatives, next step.

* CommandError
  - UsageError      2  what was asked for cannot be: flag, file, recipe, seeds, folder
  - BackendFailure  5  where the runs should execute failed, or another controller took over
"""

OK, FAILED, USAGE, NOT_FINISHED, GATE, BACKEND, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

EXIT_CODES = (
    "Exit codes: 0 ok · 1 a run failed · 2 usage · 3 not finished · 4 a gate failed (python -m results verify) · "
    "5 backend or infrastructure · 130 interrupted"
)


class CommandError(Exception):
    exit_code = BACKEND


class UsageError(CommandError):
    exit_code = USAGE


class BackendFailure(CommandError):
    exit_code = BACKEND
