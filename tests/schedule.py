"""Which process of the suite runs what, and when: a file stays in one process, and so do files of one group.

So a fixture of a module is made once, and what may not run twice at a time (a Ray cluster fills the memory) does not.
pytest-xdist's own `loadgroup` does nothing under pytest 9.2, which no longer reads where it writes a test's group.
"""

import re
from functools import cache
from pathlib import Path

import pytest

# These take longest: begun first, so that no process is left alone with one of them at the end. The rest is short.
FIRST = (
    *("cluster", "ray", "worlds", "modal"),
    "tests/golf_core/test_recipes.py",
    "tests/orchestrator/test_cli.py",
    "tests/orchestrator/test_told.py",
    "tests/golf_core/test_bundle_pack.py",
    "tests/golf_core/test_pipeline.py",
    "tests/golf_core/test_evaluate_causality.py",
    "tests/golf_core/test_quant_runs.py",
    "tests/results/report/test_report_page.py",
    "tests/results/report/test_report_browser.py",
    "tests/golf_core/test_techniques.py",
    "tests/golf_core/test_prepare_export.py",
    "tests/jobs/test_fetch_faults.py",
)


@cache
def unit_of(root: Path, nodeid_or_file: str) -> str:
    """What a test is run with: the group that its file names (`xdist_group("ray")`), by the alphabet the first where
    there are more (a cluster's tests keep together); else its file alone."""
    file = nodeid_or_file.partition("::")[0]
    if file != nodeid_or_file:
        return unit_of(root, file)
    text = (root / file).read_text(encoding="utf-8")
    return min(re.findall(r'xdist_group\("(\w+)"\)', text), default=file)


def place_of(unit: str) -> int:
    return FIRST.index(unit) if unit in FIRST else len(FIRST)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place_of(unit_of(config.rootpath, item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Units in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class ByUnit(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(config.rootpath, nodeid)

    config.option.loadscopereorder = False
    return ByUnit(config, log) if config.getoption("dist") == "loadgroup" else None
