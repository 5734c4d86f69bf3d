"""Sealed stages in a storage: what comes back is what was sealed, or an error."""

import pytest

from golf_core.rundir import LOG, SEAL, TRAIN_SEAL, is_sealed
from orchestrator.backends.base import Job
from orchestrator.backends.fake import Act, FakeBackend
from orchestrator.cluster.storage import Storage, StorageError, check_storage, shown
from orchestrator.errors import UsageError
from tests.orchestrator.toy import attempt_folder


@pytest.fixture(params=["file", "memory"])
def uri(request, tmp_path):
    return f"file://{tmp_path}/kept" if request.param == "file" else f"memory://{tmp_path.name}/kept"


def ended(tmp_path, act):
    folder = attempt_folder(tmp_path)
    backend = FakeBackend(tmp_path / "runs", [act])
    backend.start(Job(folder.name, folder))
    backend.close() if act.polls > 9 else [backend.poll({"attempt_id": folder.name}) for _ in range(3)]
    return folder


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_sealed_attempt_comes_back_as_it_was(uri, tmp_path):
    """Every file of both seals, into an empty folder; what is not sealed is not kept."""
    folder, back = ended(tmp_path, Act()), tmp_path / "back"
    back.mkdir()
    copies = Storage(uri, folder.name, "1a2b")
    assert not copies.has(TRAIN_SEAL)
    copies.put(folder, TRAIN_SEAL)
    assert copies.has(TRAIN_SEAL) and not copies.has(SEAL)
    copies.put(folder, SEAL)
    copies.get(back, SEAL)
    assert is_sealed(back, SEAL) and is_sealed(back, TRAIN_SEAL) and files(back) == files(folder)
    assert not Storage(uri, folder.name, "other").has(SEAL)


def test_a_training_comes_back_though_its_log_grew(uri, tmp_path):
    """The train seal holds for the beginning of what grows."""
    folder, back = ended(tmp_path, Act("rank_killed", "evaluate")), tmp_path / "back"
    back.mkdir()
    with (folder / LOG).open("a") as log:
        log.write("evaluation began\n")
    copies = Storage(uri, folder.name, "1a2b")
    copies.put(folder, TRAIN_SEAL)
    copies.get(back, TRAIN_SEAL)
    assert is_sealed(back, TRAIN_SEAL) and not (back / SEAL).exists()


def test_a_damaged_copy_is_refused_and_leaves_nothing(tmp_path):
    """A byte changed there: an error that names it, and a folder as it was. Likewise a seal with foreign names."""
    folder, back = ended(tmp_path, Act()), tmp_path / "back"
    back.mkdir()
    copies = Storage(f"file://{tmp_path}/kept", folder.name, "1a2b")
    copies.put(folder, SEAL)
    there = tmp_path / "kept" / copies.place
    whole = (there / "scores.json").read_bytes()
    (there / "scores.json").write_bytes(whole.replace(b"0.69", b"0.68"))
    with pytest.raises(StorageError, match=r"scores\.json differs from its seal"):
        copies.get(back, SEAL)
    (there / SEAL).write_text('{"files": {"../outside": {"size": 1, "sha256": "0"}}}')
    with pytest.raises(StorageError, match="outside"):
        copies.get(back, SEAL)
    assert list(back.iterdir()) == []


def test_what_was_not_sealed_is_not_copied(uri, tmp_path):
    """An attempt in the middle of its training has nothing to keep."""
    folder = attempt_folder(tmp_path)
    copies = Storage(uri, folder.name, "1a2b")
    with pytest.raises(StorageError, match=SEAL):
        copies.put(folder, SEAL)
    assert not copies.has(SEAL)


@pytest.mark.parametrize("uri", ["s3", "/data/kept", "://x", "s3://", "s3://key:secret@bucket/golf"])
def test_a_storage_that_is_none_is_refused_without_its_secrets(uri):
    """No URI, or one with credentials in it, which would stand in ledgers and messages."""
    with pytest.raises(UsageError, match="--storage") as refused:
        check_storage(uri)
    assert "secret" not in str(refused.value)
    assert shown("gs://bucket/golf") == "gs://bucket/golf" and check_storage("gs://bucket/golf") is None


def test_a_storage_that_does_not_answer_is_an_error_of_ours(tmp_path):
    """An unknown protocol, or one whose library is absent, is told as a StorageError."""
    with pytest.raises(StorageError, match="nosuch"):
        Storage("nosuch://bucket", "0" * 16 + "-a1", "1a2b").has(SEAL)
