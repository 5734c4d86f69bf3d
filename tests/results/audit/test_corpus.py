"""The triage on labelled scripts: how many of the illegal it finds, and how few of the legal it troubles."""

from pathlib import Path

import pytest

from results.audit.pool import Request, audit_many
from results.audit.source import Limits
from tests.results.audit.corpus import ARCHIVE, SETS, Labelled, rates, unpack
from tests.results.audit.rename import rename

# Small ones of each family, among them a folder of several files, wrappers and what a run command switches on.
SLICE = {
    "dev/legal/033_recurrent_stateful.py",
    "dev/legal/034_recurrent_online.py",
    "dev/legal/031_golf_chunk_ttt.py",
    "dev/legal/032_golf_wrapped_b64.py",
    "dev/legal/025_dynamic_evaluation.py",
    "dev/legal/045_helper_modules/train_gpt.py",
    "dev/illegal/009_per_doc_sgd_before_score.py",
    "dev/illegal/016_golf_prequant_two_lines.py",
    "dev/illegal/027_max_of_two_probs.py",
    "dev/illegal/037_soft_prefix_per_doc.py",
    "dev/illegal/046_space_plus_one_twice.py",
    "dev/illegal/056_hidden_method_prepare.py",
    "dev/illegal/062_hidden_wrapped_zlib_b64.py",
    "dev/illegal/066_cfg_json_cache.py",
    "dev/illegal/063_argparse_flag_adapt.py",
    "dev/disputed/002_packed_train_ngrams.py",
}
WANTED = {"legal": "pass", "illegal": "fail", "disputed": "review"}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """All of the archive, and the folder in which it lies."""
    folder = tmp_path_factory.mktemp("scripts")
    return folder, unpack(folder)


def verdicts(folder: Path, rows: list[Labelled]) -> list[str]:
    requests = [Request(folder / one.file, one.run) for one in rows]
    return [one.verdict for one in audit_many(requests, Limits())]


def renamed(folder: Path, rows: list[Labelled], into: Path) -> list[Labelled]:
    """Scripts of one file that this Python can parse, each under the same name in another folder."""
    found = []
    for number, one in enumerate(rows):
        try:
            text = rename((folder / one.file).read_text(encoding="utf-8"), seed=number)
        except SyntaxError:
            continue
        if not one.file.endswith("train_gpt.py"):
            (into / one.file).parent.mkdir(parents=True, exist_ok=True)
            (into / one.file).write_text(text, encoding="utf-8")
            found.append(one)
    return found


def test_the_archive_is_small_and_whole(scripts):
    """Every script that is labelled is there, once, and the file is small enough to be kept in a repository."""
    folder, rows = scripts
    assert ARCHIVE.stat().st_size < 1_000_000
    assert all((folder / one.file).is_file() for one in rows)
    assert len({one.file for one in rows}) == len(rows)
    assert {one.set for one in rows} == set(SETS)
    assert {one.label for one in rows} == set(WANTED)


def test_a_slice_gets_its_verdicts(scripts):
    """Legal scripts pass, illegal ones fail, a disputed one is left for review."""
    folder, rows = scripts
    chosen = [one for one in rows if one.file in SLICE]
    assert len(chosen) == len(SLICE)
    found = dict(zip((one.file for one in chosen), verdicts(folder, chosen), strict=True))
    assert found == {one.file: WANTED[one.label] for one in chosen}


def test_a_slice_keeps_its_verdicts_under_other_names(scripts, tmp_path):
    """No verdict rests on what a script calls its functions and variables."""
    folder, rows = scripts
    chosen = renamed(folder, [one for one in rows if one.file in SLICE][::2], tmp_path)
    assert len(chosen) >= 7
    assert verdicts(tmp_path, chosen) == [WANTED[one.label] for one in chosen]


@pytest.mark.whole
@pytest.mark.parametrize("name", SETS)
def test_the_aims_hold_on_every_script(scripts, name, tmp_path):
    """At least 90 % of the illegal flagged and 60 % failed, at most 10 % of the legal flagged and 3 % failed; so too
    under other names."""
    folder, rows = scripts
    ours = [one for one in rows if one.set == name]
    others = renamed(folder, ours, tmp_path)
    for place, some in ((folder, ours), (tmp_path, others)):
        found = rates(zip((one.label for one in some), verdicts(place, some), strict=True))
        of, _passed, review, failed = found["illegal"]
        assert (review + failed) / of >= 0.9 and failed / of >= 0.6
        of, _passed, review, failed = found["legal"]
        assert (review + failed) / of <= 0.1 and failed / of <= 0.03
