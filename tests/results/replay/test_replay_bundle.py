"""A bundle of ours, trained and scored by processes of their own, replayed and recounted from what was sealed."""

import json
import shutil

import pytest

from golf_core.data.corpus import load_corpus
from golf_core.data.embedded import embedded_data
from golf_core.rundir import ARTIFACT, SCORE_LEDGER, SEAL, write_seal
from results.collect import collect
from results.recount.attempts import recount_attempts
from results.recount.count import Source
from results.replay.replay import replay
from results.replay.sandbox import LEVELS, NAMESPACES
from tests.golf_core.test_pipeline import run_both_stages, tiny
from tests.results.attempts import FINAL_FILES, TARGET, Runs
from tests.results.recount.models import data_folder
from tests.results.replay.evaluators import need

SEED = 1337


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """(a submission of a tiny recipe of ours with one sealed attempt, its data, its documents)."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("scored")
    corpus = load_corpus()
    val, train = corpus.val[:3], corpus.train[:12]
    model = (embedded_data()[0] / "tokenizer.model").read_bytes()
    encode = sentencepiece.SentencePieceProcessor(model_proto=model).encode
    hashes = data_folder(folder / "data", model, [encode(one) for one in val], [encode(one) for one in train])
    (folder / "docs.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in (*val, *train)))
    out = folder / "out"
    out.mkdir()
    source = Source(folder / "data", folder / "data" / "tok.model", folder / "docs.jsonl", **hashes)
    run_both_stages(out, tiny(), (source.data, source.tokenizer), "--dtype", "fp32")
    told = json.loads((out / "scores.json").read_text())
    runs = Runs(
        folder / "runs",
        (SEED,),
        target=TARGET | {"processes": 1, "launcher": "python"},
        code=(out / "train_gpt.py").read_text(),
        **hashes,
    )
    sealed = runs.attempt(
        SEED,
        stages=told["stages"],
        artifact=(out / ARTIFACT).read_bytes(),
        scores={"stages": told["stages"]},
        seal=False,
    )
    shutil.copyfile(out / SCORE_LEDGER, sealed / SCORE_LEDGER)
    facts = {"run_id": runs.run_ids[SEED], "attempt_id": sealed.name, "seed": SEED}
    write_seal(sealed, SEAL, FINAL_FILES, facts)
    return collect(runs.folder), source


@pytest.mark.parametrize("level", [NAMESPACES, *(pytest.param(one, marks=pytest.mark.whole) for one in LEVELS[1:])])
def test_a_bundle_scores_the_same_from_its_artifact_alone(scored, level):
    """Torch, test-time training and all, with nothing of the machine but Python and the validation shards."""
    need(level)
    found, source = scored
    told = replay(found.evidence[SEED], source, found.spec.runs_dir, [level])
    assert "to the last digit, as all 3 stages" in told.says, told.findings
    assert told.evidence["opened"]["outside"] == told.evidence["opened"]["network"] == []
    assert told.evidence["opened"]["unlisted"] == {}


def test_its_bytes_are_counted_again(scored):
    """By the ledger's nats, against the documents' own text."""
    found, source = scored
    told = recount_attempts(found, source.data, source.tokenizer, source.docs)[SEED]
    assert told.verdict == "pass", told.findings
    assert set(told.evidence["stages"]) == {"roundtrip", "sliding", "ttt"}
