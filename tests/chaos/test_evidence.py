"""Faults 10, 13 and 16: artifacts that were changed, hardware that is not what was asked for, secrets all around."""

import random
import shutil
import struct

import pytest

from golf_core.artifact.container import ARTIFACT_HEADER, ArtifactError, decode_artifact
from golf_core.artifact.zlib_codec import ZlibCodec
from golf_core.rundir import ARTIFACT, SEAL, read_json
from orchestrator.attempts import inspect
from tests.chaos.invariants import check, expected, scores_of
from tests.golf_core.test_artifact import FILE as CONTAINER
from tests.orchestrator.hardware import test_hardware
from tests.orchestrator.test_secrets import ENVIRONMENT, FILES, leaks
from tests.orchestrator.toy import TOY, toy_text


def mutated(draw, data):
    """Cut, longer, with flipped bits, with a piece of itself elsewhere, or with other sizes in its header."""
    data, at = bytearray(data), draw.randrange(len(data))
    kind = draw.choice(("cut", "longer", "flip", "flips", "piece", "header"))
    if kind == "cut":
        del data[at:]
    elif kind == "longer":
        data[at:at] = draw.randbytes(1 + draw.randrange(64))
    elif kind == "piece":
        start = draw.randrange(len(data))
        data[at : at + 16] = data[start : start + 16]
    elif kind == "header":
        place = draw.randrange(ARTIFACT_HEADER.size)
        data[place : place + 8] = struct.pack("<Q", draw.choice((0, 1, 2**31, 2**63, 2**64 - 1, len(data))))
    else:
        for _ in range(1 if kind == "flip" else 8):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return kind, bytes(data)


@pytest.mark.parametrize("number", [1_000, pytest.param(10_000, marks=pytest.mark.chaos)])
def test_a_mutated_artifact_is_rejected(tally, number):
    """Whatever was done to its bytes: a clear error of one kind, never a tensor, a crash or code that runs."""
    count, draw = tally("10 mutated artifact read by the evaluator"), random.Random(10)
    with count.recovery():
        for _ in range(number):
            kind, data = mutated(draw, CONTAINER)
            count.injected += 1
            if data == CONTAINER:
                continue
            with pytest.raises(ArtifactError):
                decode_artifact(data, ZlibCodec())
            count.fired += 1
            count.note(kind)
    count.survived = count.fired


CHANGES = {
    "cut": lambda mine, other: mine[:-1],
    "a flipped bit": lambda mine, other: bytes([mine[0] ^ 1]) + mine[1:],
    "swapped with another seed's": lambda mine, other: other,
}


@pytest.mark.parametrize(
    "place, changes",
    [
        ("counted", ["swapped with another seed's"]),
        pytest.param("counted", list(CHANGES), marks=pytest.mark.chaos),
        pytest.param("waiting for evaluation", list(CHANGES), marks=pytest.mark.chaos),
    ],
)
def test_an_artifact_changed_after_its_seal_is_never_counted(make_bench, tally, place, changes):
    """A counted attempt is damaged from then on; one that waits for its evaluation is trained anew. The other seed and
    its table stay as they are."""
    count = tally(f"10 sealed artifact changed, attempt {place}")
    calm = make_bench(TOY, name="calm")
    assert calm.run("--seeds", "1,2").returncode == 0
    scores = scores_of(calm.runs_dir)
    for number, name in enumerate(changes):
        bench = make_bench(TOY, name=f"bench-{number}")
        shutil.copytree(calm.runs_dir, bench.runs_dir)
        one, two = bench.attempt(1), bench.attempt(2)
        data = CHANGES[name]((one / ARTIFACT).read_bytes(), (two / ARTIFACT).read_bytes())
        (one / ARTIFACT).write_bytes(data)
        if place != "counted":  # as its worker leaves it, killed in evaluation
            for file in (SEAL, "result.json", "scores.json", "score_ledger.bin"):
                (one / file).unlink()
        count.injected += 1
        found = inspect(one, 1)
        assert found.state == ("damaged" if place == "counted" else "lost") and not found.train_sealed
        count.fired += 1
        count.note(name)
        with count.recovery():
            first = bench.run("--seeds", "1,2")
            assert "Traceback" not in first.stderr
            if place == "counted":  # the user decides
                assert first.returncode == 1 and "artifact.bin" in first.stderr, first.stderr
                assert bench.run("--seeds", "1,2", "--retry-failed").returncode == 0
            assert read_json(one / "VOID.json")["class"] in ("damaged", "worker_lost")
            check(bench.runs_dir, scores, mark=bench.mark)


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(test_hardware.hardware, "OTHERS_SECONDS", 0.0)


def test_wrong_hardware_is_refused_before_anything_is_spent(tally, tmp_path, no_patience):
    """Seven GPUs, PCIe, NVL, H200, memory errors, heat: each is named, and not even the probe has run."""
    count = tally("13 wrong hardware")
    for name, (module, cls, words) in test_hardware.REFUSED.items():
        count.injected += 1
        with count.recovery():
            found = test_hardware.look(tmp_path, module)
            assert found.ended.cls == cls and words in found.ended.message and "probe" not in found.report, name
            count.fired += 1
            count.note(cls)


def test_secrets_all_around_are_found_nowhere(make_bench, tally, tmp_path):
    """In the environment and in the files where tools keep them; the program prints all that it knows, and fails."""
    count = tally("16 planted secrets")
    home = tmp_path / "home"
    for name, text in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    for behaviour, code in ({"setup": "environ"}, 0), ({"setup": "environ", "train3": "crash"}, 1):
        bench = make_bench(toy_text(behaviour), name=f"bench-{code}")
        bench.extra_env = {**ENVIRONMENT, "HOME": str(home), "HARMLESS": "seen-by-the-program"}
        done = bench.run("--seeds", "1")
        assert done.returncode == code, done.stderr
        with count.recovery():
            assert leaks(bench.folder) == [] and "planted" not in done.stdout + done.stderr
        count.survived += len(ENVIRONMENT) - 1
        count.injected += len(ENVIRONMENT)
        count.fired += len(ENVIRONMENT) * ("seen-by-the-program" in (bench.attempt(1) / "log.txt").read_text())


def test_the_same_scores_by_another_text_of_the_toy():
    """What the checks expect of a text: only its length is another."""
    assert expected({1: b'{"code_bytes": 1, "seed": 1}'}, "four") == {1: b'{"code_bytes": 4, "seed": 1}'}
