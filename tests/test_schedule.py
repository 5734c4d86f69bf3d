"""The suite's processes: a group and a file stay in one of them, and the long ones come first."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.schedule import FIRST, unit_of

ROOT = Path(__file__).resolve().parents[1]
ALONE = "def test_{}(): pass\n"
GROUPED = 'import pytest\n@pytest.mark.xdist_group("g")\ndef test_{}(): pass\n'


def test_what_comes_first_is_there():
    """Every name of the list is a group or a file of tests: one that was renamed would come last in silence."""
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py")]
    assert set(FIRST) <= {unit_of(ROOT, file) for file in files}


@pytest.mark.whole
def test_a_group_and_a_file_stay_in_one_process(tmp_path):
    """Of two processes each has tests, but none a part of a file or of a group of files."""
    for name in "abcd":
        text = (GROUPED if name in "bd" else ALONE).format("first")
        (tmp_path / f"test_{name}.py").write_text(text + "".join(ALONE.format(n) for n in range(9)))
    options = ["-n", "2", "--dist", "loadgroup", "-v", "-p", "tests.schedule", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), *options, str(tmp_path)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tmp_path, env=env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    ran = re.findall(r"\[(gw\d)\].* PASSED .*test_(\w)\.py::", done.stdout)
    assert done.returncode == 0 and len(ran) == 40, done.stdout + done.stderr
    assert len(set(ran)) == 4 and len({process for process, _ in ran}) == 2
    assert dict(map(reversed, ran))["b"] == dict(map(reversed, ran))["d"]
