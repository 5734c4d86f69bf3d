"""The recount: honest scores are found again, every known fault has its name, and no text is taken on trust."""

import dataclasses
import gzip
import json
import math

import numpy as np
import pytest
import sentencepiece
from typer.testing import CliRunner

from golf_core.data.byte_count import byte_tables, target_bytes
from golf_core.data.embedded import embedded_data
from golf_core.rundir import file_sha256
from results.cli import app
from results.collect import collect
from results.dataset import EMBEDDED_SHA256
from results.pack import pack
from results.project import Project
from results.recount.count import Claimed, ClaimedRatio, Source, recount
from results.recount.faults import explained, known_faults
from results.recount.model import RecountError, read_model
from results.recount.overlap import overlap
from results.recount.shards import BLOCK_TOKENS, documents, find_split
from tests.results.attempts import Runs, stage
from tests.results.recount.models import data_folder, model_bytes, pieces_with, write_shard

TEXTS = ["the cab", "a é the b", "abc 字 the", "", "the the the b"]
TRAIN = ["ab ab ab", "the b the c"]


def made(tmp_path, texts=TEXTS, train=TRAIN, words=None, name="data", **model):
    """A data folder of these texts, a file of them, and the source that a recount takes."""
    data = model_bytes(pieces_with() if words is None else pieces_with(words), **model)
    encode = sentencepiece.SentencePieceProcessor(model_proto=data).encode
    hashes = data_folder(tmp_path / name, data, [encode(one) for one in texts], [encode(one) for one in train])
    docs = tmp_path / f"{name}.jsonl.gz"
    with gzip.open(docs, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": one}) + "\n" for one in [*texts, *train])
    return Source(tmp_path / name, tmp_path / name / "tok.model", docs, **hashes)


def stream(source):
    return np.fromfile(source.data / "x_val_000000.bin", dtype="<u2")[512:]


def claim(source, off=0, **more):
    """A score over all targets that was divided by so many bytes more than there are."""
    size = sum(len(one.encode()) for one in TEXTS) + off
    told = Claimed("sliding", 2.0, 2.0 * math.log(2) * size, len(stream(source)) - 1, size)
    return dataclasses.replace(told, **more)


def found(source, *claims, **more):
    return recount(source, {"": list(claims)}, **more)[""]


def said(told, verdict):
    return "; ".join(says for one, says in told.findings if one == verdict)


def test_an_honest_score_is_found_again(tmp_path):
    """Text, bytes, targets and BPB, with the overlap of the splits."""
    source = made(tmp_path)
    told = found(source, claim(source))
    assert told.verdict == "pass", told.findings
    assert told.evidence["raw_text"] == {"bytes": 41, "documents": 5, "equal_unnormalised": 5}
    assert told.evidence["overlap"]["shared"] == 0 and "2.00000000 BPB again" in told.says


def test_it_agrees_with_what_the_scores_are_made_with(tmp_path):
    """The byte tables of golf_core and this decoder, written apart, give the same bytes of the embedded corpus."""
    folder = embedded_data()[0]
    tokens = np.fromfile(next(folder.glob("*_val_*.bin")), dtype="<u2")[512:]
    theirs = int(target_bytes(tokens[:-1], tokens[1:], byte_tables(folder / "tokenizer.model", 1024)).sum())
    told = recount(Source(folder, folder / "tokenizer.model", embedded=True), {"": None})[""]
    assert told.counts.bytes == theirs and told.verdict == "pass", told.findings
    assert told.counts.documents == len(told.counts.document_bytes) == 97


@pytest.mark.parametrize("dummy", [False, True])
def test_every_known_fault_has_its_name(tmp_path, dummy):
    """What a wrong count comes to is explained by the fault that makes it."""
    source = made(tmp_path, dummy=dummy)
    counts = found(source, claim(source)).counts
    ids = stream(source)
    model = read_model(source.tokenizer)
    pieces = [model.pieces[one].text for one in ids]
    text = [len(piece.replace("▁", " ").encode()) if not piece.startswith("<") else 0 for piece in pieces]
    leading = sum(piece.startswith("▁") for piece in pieces[1:]) - (sum(bool(one) for one in TEXTS) if dummy else 0)
    wrong = {
        "byte-fallback pieces counted as three bytes": counts.bytes + 2 * sum(one.startswith("<0x") for one in pieces),
        "counted twice": counts.bytes + leading,
        "the space before a word not counted": counts.bytes - leading,
        "a byte counted for every BOS": counts.bytes + len(TEXTS),
        "the names of BOS": counts.bytes + 3 * len(TEXTS),
    }
    assert sum(text) + sum(one.startswith("<0x") for one in pieces) - (4 if dummy else 0) == counts.bytes
    for name, size in wrong.items():
        told = found(source, claim(source, bytes=size))
        assert told.verdict == "fail" and name in told.says, (name, told.says)
    both = counts.bytes + 2 * counts.byte_tokens + counts.spaced
    assert " and " in explained(both, counts, 1000)
    assert len({fault.bytes for fault in known_faults(counts)}) > 4


def test_a_number_that_nobody_can_explain_is_said_to_be_so(tmp_path):
    """It fails all the same, by how much it is off; a ratio that somebody wrote down is named."""
    source = made(tmp_path)
    assert "no known fault" in said(found(source, claim(source, off=1000)), "fail")
    longer = made(tmp_path, texts=["ab the"] * 400, name="longer")
    targets = len(stream(longer)) - 1
    told = found(longer, Claimed("sliding", 2.0, 1.0, targets, round(2.5 * targets)))
    assert "wrote down, 2.5" in said(told, "fail"), told.findings


def test_a_part_of_the_split_is_no_score(tmp_path):
    """A subset, and a last window that was left out, with the bytes of what was scored."""
    source = made(tmp_path, texts=["the b"] * 700)
    targets = len(stream(source)) - 1
    whole = recount(source, {"": None})[""].counts.bytes
    for scored, name in ((targets - 1, "a part of the split"), (targets // 512 * 512, "512 tokens, is missing")):
        size = round(whole * scored / targets)
        told = found(source, Claimed("sliding", 2.0, 2.0 * math.log(2) * size, scored, size))
        assert name in said(told, "fail"), told.findings
    assert "more than there are" in said(found(source, claim(source, targets=targets + 1, bytes=whole)), "fail")


def test_a_log_that_tells_a_ratio_alone_is_held_too(tmp_path):
    """Loss over BPB gives the bytes a token: right ones pass, spaces counted twice are found."""
    source = made(tmp_path)
    targets, size = len(stream(source)) - 1, sum(len(one.encode()) for one in TEXTS)
    assert found(source, ClaimedRatio("log", 2.0, 2.0 * math.log(2) * size / targets)).verdict == "pass"
    spaced = found(source).counts.spaced
    wrong = found(source, ClaimedRatio("log", 2.0, 2.0 * math.log(2) * (size + spaced) / targets))
    assert "counted twice" in said(wrong, "fail")
    assert "nothing can be divided" in said(found(source), "review")


def test_a_bpb_that_does_not_follow_fails(tmp_path):
    """Though bytes and targets are right."""
    source = made(tmp_path)
    assert "1.00000000 BPB, not 2" in said(found(source, claim(source, nats=claim(source).nats / 2)), "fail")


def test_other_text_than_the_documents_fails(tmp_path):
    """One word changed, a document missing at the end, or none in the file: each is named with its place."""
    source = made(tmp_path)
    for change, name in (
        (lambda lines: [lines[0].replace("cab", "cat"), *lines[1:]], "document 0 is not the text at docs.jsonl:1"),
        (lambda lines: lines[:3], "a document 3, and docs.jsonl has no more"),
    ):
        lines = change([json.dumps({"text": one}) for one in TEXTS])
        (tmp_path / "docs.jsonl").write_text("\n".join(lines) + "\n")
        told = found(dataclasses.replace(source, docs=tmp_path / "docs.jsonl"), claim(source))
        assert name in said(told, "fail"), told.findings
    assert "not at hand" in said(found(dataclasses.replace(source, docs=None), claim(source)), "review")
    (tmp_path / "docs.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(RecountError, match=r"docs\.jsonl:1 has no text"):
        found(dataclasses.replace(source, docs=tmp_path / "docs.jsonl"), claim(source))


def test_validation_documents_among_the_training_documents_are_found(tmp_path):
    """Whole documents alone, of some length, with the row that they make: another split shows as one long row."""
    long = ["the cab " * 9 + "abc " * number for number in range(6)]
    told = found(made(tmp_path, texts=long, train=[*TRAIN, *long[1:4], long[0][:-9]]))
    assert told.evidence["overlap"] == {
        "train_documents": 6,
        "validation_documents": 6,
        "shared": 3,
        "first": [1, 2, 3],
    }
    assert "3 of 6 validation documents (50.0 %) are training documents too, documents 1 to 3" in said(told, "fail")
    assert said(found(made(tmp_path, texts=["ab"], train=["ab"], name="short")), "fail") == ""


def test_missing_bos_and_a_vocabulary_without_a_space_are_named(tmp_path, monkeypatch):
    """The two faults of a data set itself, and a manifest that tells other counts."""
    source = made(tmp_path, texts=["b b"], words=["a", "b"])
    told = found(source)
    assert "1 spaces are spelled by three byte pieces" in said(told, "review") and told.counts.bytes == 3
    assert "the vocabulary has no U+2581" in explained(5, told.counts, 1000)
    write_shard(source.data / "x_val_000000.bin", [259, 260])
    bare = dataclasses.replace(source, data_sha256=None)
    assert "does not begin with BOS" in said(found(bare), "fail")
    assert "manifest.json tells 6 validation tokens, the shards hold 2" in said(found(bare), "fail")
    monkeypatch.setattr("results.recount.shards.MAX_DOCUMENT_TOKENS", 1)
    with pytest.raises(RecountError, match="no BOS within 1 tokens"):
        found(bare)


def test_sidecars_of_bytes_are_told_and_held_against_the_text(tmp_path):
    """A glob takes them for shards; their sum may be the denominator where it is the original text's."""
    source = made(tmp_path)
    ids, told, at = stream(source), [], -1
    for token in ids:
        at += int(token == 1)
        told.append(len(TEXTS[at].encode()) if token == 1 else 0)
    beside = source.data / "x_val_bytes_000000.bin"
    write_shard(beside, told)
    honest = found(source, claim(source))
    assert honest.verdict == "pass" and "document for document" in honest.says and beside.name in honest.says
    both = found(source, claim(source, targets=2 * len(ids) - 1))
    assert "the sidecars of bytes were read as tokens" in said(both, "fail")
    write_shard(beside, [told[0] + 1, *told[1:]])
    assert "the sidecar of document 0 tells 8 bytes, its text has 7" in said(found(source, claim(source)), "fail")


def test_other_data_than_the_run_names_is_refused(tmp_path):
    """Shards, tokenizer, tokens beyond it; with the train shards absent their hashes are the manifest's."""
    source = made(tmp_path)
    for key in ("data_sha256", "tokenizer_sha256"):
        with pytest.raises(RecountError, match="id names"):
            found(dataclasses.replace(source, **{key: "0" * 64}))
    (source.data / "x_train_000000.bin").unlink()
    told = found(source, claim(source))
    assert said(told, "fail") == "" and "not looked at" in said(told, "review")
    write_shard(source.data / "x_val_000000.bin", [1, 999])
    with pytest.raises(RecountError, match="token 999"):
        found(source)


def test_documents_come_whole_across_blocks_and_shards(tmp_path):
    """However the stream is cut, each document is the same one."""
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, 50, 5000)
    whole = [group.tolist() for group in np.split(tokens, np.flatnonzero(tokens == 1)) if len(group)]
    for size in (1, 7, 4999, 5000):
        parts = (tokens[at : at + size].astype("<u2") for at in range(0, 5000, size))
        again = []
        for group, starts in documents(parts, 1):
            again += [part.tolist() for part in np.split(group, starts[1:])]
        assert again == whole
    assert BLOCK_TOKENS > 0


def test_the_digests_of_documents_do_not_depend_on_the_cut(tmp_path):
    """A document that goes on in the next shard is one document."""
    document = [1, *range(5, 45)]
    write_shard(tmp_path / "x_val_0.bin", [*document, 1, 3])
    write_shard(tmp_path / "x_train_0.bin", [1, 7, 7, *document[:20]])
    write_shard(tmp_path / "x_train_1.bin", [*document[20:], 1, 9])
    told = overlap(find_split(tmp_path, "train").shards, find_split(tmp_path, "val").shards)
    assert (told.shared, told.train_documents, told.validation_documents) == (1, 3, 1)


def submission(tmp_path, bpb=1.7, tokens=120_906, size=345_576):
    """One of ours over the embedded corpus, whose ids name its data."""
    folder = embedded_data()[0]
    known = file_sha256(folder / "tokenizer.model")
    runs = Runs(tmp_path / "runs", seeds=(1, 2), data_sha256=EMBEDDED_SHA256, tokenizer_sha256=known)
    loss = bpb * math.log(2) * size / tokens
    told = {"sliding": stage(bpb, val_loss=loss, tokens=tokens, bytes=size)}
    for seed in runs.seeds:
        runs.attempt(seed, stages=told)
    return runs, folder


def test_verify_recounts_a_submission_and_keeps_it(tmp_path):
    """The command writes a record for each seed, and its gate passes; other data than the run's is refused."""
    runs, folder = submission(tmp_path)
    pack(collect(runs.folder), Project(), runs.folder / "submission")
    asked = ["verify", runs.submission_id[:12], "--runs-dir", str(runs.runs_dir), "--json", "--recount"]
    done = CliRunner().invoke(app, [*asked, "--data", str(folder)])
    gate = next(one for one in json.loads(done.stdout)["gates"] if one["name"] == "recount")
    assert gate["verdict"] == "pass" and "345,576 bytes in 97 documents" in gate["why"], done.stderr
    assert len(list((runs.runs_dir / "audits").glob("*/recount.json"))) == 2
    other = made(tmp_path)
    refused = CliRunner().invoke(app, [*asked, "--data", str(other.data)])
    assert refused.exit_code == 5 and "is not the tokenizer that the run's id names" in refused.stderr


def test_a_folder_of_others_is_not_recounted(tmp_path):
    """There are no sealed attempts: the command says so."""
    runs, _ = submission(tmp_path)
    pack(collect(runs.folder), Project(), tmp_path / "theirs")
    done = CliRunner().invoke(app, ["verify", str(tmp_path / "theirs"), "--runs-dir", str(tmp_path), "--recount"])
    assert done.exit_code == 2 and "sealed attempts" in done.stderr
