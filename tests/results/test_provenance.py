"""What a submission says of its code and data: read from the sealed bundle and scores, not from spec.json."""

import pytest

from golf_core.bundle import build_bundle
from golf_core.config import Config
from golf_core.config_io import to_dict
from golf_core.data.embedded import TOKENIZER_NAME, embedded_data
from golf_core.data.identity import data_identity
from golf_core.rundir import write_json
from results.bundle_config import frozen_config
from results.collect import collect
from results.dataset import EMBEDDED_SHA256, data_line, data_warning, has_fineweb_size
from results.pack import pack
from results.project import Project
from results.tables import report
from tests.results.attempts import TEXT_BYTES, TOKENS, Runs
from tests.results.test_pack import results
from tests.results.test_tables import row

LAYERS = "CONFIG = Config(\n    name='demo',\n    model=ModelConfig(\n        layers={},\n    ),\n)\n"


def readme(runs):
    pack(collect(runs.folder), Project(), runs.folder / "submission")
    return (runs.folder / "submission" / "README.md").read_text(encoding="utf-8")


def test_the_config_is_read_from_a_real_bundle():
    """Parsing what build_bundle writes gives the config that it was built from."""
    config = Config(name="x")
    assert frozen_config(build_bundle(config)) == to_dict(config)


@pytest.mark.parametrize(
    "code", ["", "def", "CONFIG = 3", "CONFIG = Config(f())", "CONFIG = Config(**x)", "CONFIG = Config(a=open('x'))"]
)
def test_another_program_has_no_config(code):
    """Whatever is not one expression of plain values is not read, and never run."""
    assert frozen_config(code) is None


def test_the_readme_shows_the_bundles_config(tmp_path):
    """An edited config in spec.json, or a bundle edited by hand, is told, and the bundle's is shown."""
    runs = Runs(tmp_path / "runs", code=LAYERS.format(4)).all_attempts()
    text = readme(runs)
    assert '"layers": 4' in text and "by hand" not in text
    write_json(runs.folder / "spec.json", runs.spec | {"config": {"name": "demo", "model": {"layers": 99}}})
    text = readme(runs)
    assert '"layers": 4' in text and '"layers": 99' not in text and "edited by hand" in text
    assert "not a bundle of a recipe" in readme(Runs(tmp_path / "other").all_attempts())


def test_the_data_is_named_at_the_head(tmp_path):
    """README's headline and table.md say what the BPB is not of; a command for a CPU hides the GPUs."""
    runs = Runs(tmp_path / "runs", seeds=(1337,)).all_attempts()
    text, found = readme(runs), collect(runs.folder)
    head = next(line for line in text.splitlines() if line.startswith("**val_bpb"))
    assert "not the challenge's FineWeb validation split" in head and "(1 seed)" in head
    table = report(found.spec, found.rows, found.gates, [])
    assert "not the challenge's FineWeb validation split" in table.splitlines()[0]
    line = f"Data: sha256 {'d' * 64}, scored tokens {TOKENS:,}, bytes {TEXT_BYTES:,}"
    assert line in text and line in table and "\nCUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 SEED=1337" in text


def test_data_of_a_hub_is_told_with_its_place_and_commit(tmp_path):
    """README.md says from where a reviewer can have the same shards."""
    runs = Runs(tmp_path / "runs", seeds=(1337,)).all_attempts()
    source = {"kind": "hub", "repo": "somebody/export", "revision": "c" * 40}
    data = {**runs.spec["data"], "name": "fineweb10B_sp1024", "source": source, "shards": {"train": 80, "val": 1}}
    write_json(runs.folder / "spec.json", {**runs.spec, "data": data})
    origin = f"fineweb10B_sp1024 of somebody/export at {'c' * 40} with 80 train shards, sha256 {'d' * 64}"
    assert f"Data: {origin}" in readme(runs)


def test_known_data_is_recognised():
    """The challenge's counts carry no warning, within whole sequences; the embedded corpus has its name."""
    assert has_fineweb_size(62_021_632, 151_080_363) and has_fineweb_size(62_021_632 + 2000, 151_085_000)
    assert not has_fineweb_size(62_021_632, 140_000_000) and not has_fineweb_size(None, None)
    assert data_warning([row(1, val_tokens=62_021_632, val_bytes=151_080_363)]) == ""
    assert "State of the Union" in data_line([row(1, data_sha256=EMBEDDED_SHA256, val_tokens=5, val_bytes=9)])
    assert data_line([row(1, data_sha256="d" * 64)], "toy").startswith(f"Data: toy, sha256 {'d' * 64}")


def test_verifying_the_outputs_folder_names_the_right_one(tmp_path):
    """runs/<id> instead of runs/<id>/submission is a usage error that says where to look."""
    runs = Runs(tmp_path / "runs").all_attempts()
    done = results("verify", runs.folder, "--runs-dir", runs.runs_dir, folder=tmp_path)
    assert done.returncode == 2 and f"{runs.folder}/submission" in done.stderr and "pack" in done.stderr


def test_the_embedded_corpus_is_known_by_its_hash():
    """The hash that names the embedded corpus is the identity of the shards that are built from it."""
    folder, _ = embedded_data()
    identity = data_identity(folder, folder / TOKENIZER_NAME, 1024)
    assert identity["data_sha256"] == EMBEDDED_SHA256
