"""The command `results parse`: files and folders, forms, what it says of what it cannot read."""

import csv
import io
import json

import pytest

from results.parse.table import COLUMNS
from tests.results.parse import logs
from tests.results.parse.logs import Truth, written


def call(arguments):
    """(exit code, stdout, stderr)."""
    from typer.testing import CliRunner

    from results.cli import app

    done = CliRunner().invoke(app, ["parse", *map(str, arguments)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_bytes(written(logs.old()))
    (tmp_path / "logs" / "b.txt").write_bytes(written(logs.new(Truth(seed=42, post_ttt_bpb=1.1191))))
    (tmp_path / "logs" / "notes.md").write_text("no log\n")
    return tmp_path / "logs"


def test_a_folder_is_its_logs(folder):
    """Of a folder the .log and .txt files are read, in order; the table has their mean and spread."""
    code, out, _ = call([folder])
    assert code == 0 and "a.log" in out and "b.txt" in out and "notes.md" not in out
    assert "mean 1.11916494 ± 0.00009184" in out


def test_csv_has_every_field_with_full_digits(folder):
    """A column a field in the order of the fields, the values as they were printed."""
    _, out, _ = call([folder, "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [*rows[0]] == [column.name for column in COLUMNS]
    expected = Truth().expected()
    assert {name: rows[0][name] for name in expected} == {name: str(value) for name, value in expected.items()}


def test_json_has_evidence_and_reasons(folder):
    """Each run is an object with lines behind its values; what is null has a reason."""
    _, out, _ = call([folder / "a.log", folder / "notes.md", "--json"])
    told = json.loads(out)
    assert told["schema_version"] == 1
    known, unknown = told["runs"]
    assert known["evidence"]["final_bpb"]["text"].startswith("legal_ttt_exact")
    assert unknown["final_bpb"] is None and unknown["reasons"]["final_bpb"]


def test_what_cannot_be_read_is_said_and_the_rest_is_there(folder):
    """A missing file is exit code 2 with its name; the others are printed all the same."""
    code, out, err = call([folder / "a.log", folder / "absent.log"])
    assert code == 2 and "absent.log" in err and "1.11922988" in out
    assert "no training run" in call([folder / "notes.md"])[2]
    assert call([folder, "--format", "yaml"])[0] == 2
