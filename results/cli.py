"""The command line of results. Data to stdout, messages to stderr. Each verb is a module of results/verbs.

What needs pandas is imported when a command runs, so that --help is immediate.
"""

import io
import sys

import typer

from results.verbs.audit import audit
from results.verbs.collect import collect
from results.verbs.compare import compare
from results.verbs.pack import pack
from results.verbs.parse import parse
from results.verbs.report import report
from results.verbs.shared import EXIT_CODES
from results.verbs.verify import verify

VERBS = (parse, collect, compare, report, audit, pack, verify)  # in the order of --help

app = typer.Typer(
    name="python -m results",
    help="From sealed attempts and logs to tables, claims and a submission folder. " + EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in VERBS:
    app.command(epilog=EXIT_CODES)(verb)


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the sign for plus or minus shows the rest
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
