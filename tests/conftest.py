"""For all tests: properties are tried without a deadline, since machines are shared, and in CI always the same ones;
on fewer examples than `make test-whole` tries them on."""

import os
import signal

from hypothesis import settings

from tests.chaos.tally import pytest_terminal_summary, tally  # noqa: F401
from tests.cluster import cluster, whole_cluster  # noqa: F401  (fixtures for every folder of tests)
from tests.modal_fixtures import account, modal_containers, modal_plane, whole_account  # noqa: F401
from tests.schedule import pytest_collection_modifyitems, pytest_xdist_make_scheduler  # noqa: F401

settings.register_profile(
    "house", deadline=None, derandomize=bool(os.environ.get("CI")), print_blob=True, max_examples=50
)
settings.register_profile("whole", deadline=None, print_blob=True, max_examples=500)
settings.load_profile("house")

# A suite that a shell runs in the background inherits that Ctrl-C is ignored, and hands it on to what it tests.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A worker of pytest-xdist is told the width of its terminal; what the tests start is not at one.
os.environ.pop("COLUMNS", None)
