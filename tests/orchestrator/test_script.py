"""What a script may be asked with: its id, its environment, its artifact's name, and what is refused."""

import dataclasses
import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from golf_core.rundir import content_id
from orchestrator.environment import script_environment
from orchestrator.errors import UsageError
from orchestrator.progress import Progress
from orchestrator.script import Script, check_artifact, hints, may_be_secret, parse_environment, read_script
from orchestrator.spec import Data, Target
from tests.orchestrator.monoliths import MONOLITH, script_submission
from tests.orchestrator.test_cli import cli
from tests.orchestrator.toy import submission

NAMES = st.from_regex(r"[A-Z][A-Z_]{2,8}X", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
CORPUS = {"data_path": "/data", "tokenizer_path": "/t.model"}


def test_the_ids_of_recipe_runs_are_what_they_were():
    """A recipe's run id is the hash of bundle, seed, data, tokenizer and target; this one was made before scripts."""
    asked = submission("print('a bundle')\n")
    content = {
        "bundle_sha256": hashlib.sha256(b"print('a bundle')\n").hexdigest(),
        "seed": 1,
        "data_sha256": "d" * 64,
        "tokenizer_sha256": "e" * 64,
        "target": asked.target.to_dict(),
    }
    assert asked.runs[0].run_id == content_id(content)
    assert asked.runs[0].run_id == "db4b4f9d097bd907d9f06d49a5f419160121b77f77bdd64a8b915aa3d106e672"


def test_a_script_run_is_named_by_script_and_environment():
    """Its id is the hash of both with seed, data, tokenizer and target; a bundle of the same text is another run."""
    asked = script_submission(CORPUS, "x = 1\n", env=[("B", "2"), ("A", "1")])
    content = {
        "script_sha256": asked.bundle_sha256,
        "environment": {"A": "1", "B": "2"},
        "seed": 1,
        "data_sha256": "d" * 64,
        "tokenizer_sha256": "e" * 64,
        "target": asked.target.to_dict(),
    }
    assert asked.runs[0].run_id == content_id(content)
    assert asked.runs[0].run_id != dataclasses.replace(asked, script=None).runs[0].run_id


@given(env=st.dictionaries(NAMES, VALUES, min_size=2, max_size=5), order=st.randoms())
def test_the_id_follows_content_alone(env, order):
    """Order of the environment, name of the file, place of the data: none changes it; a value, a name, a glob do."""
    pairs = list(env.items())
    asked = script_submission(CORPUS, env=pairs)
    order.shuffle(pairs)
    moved = Data(path="/else", sha256="d" * 64, tokenizer_path="/x", tokenizer_sha256="e" * 64)
    same = dataclasses.replace(asked, script=Script(name="other.py", env=tuple(pairs)), recipe="other.py", data=moved)
    assert same.submission_id == asked.submission_id
    name, value = pairs[0]
    for changed in ([(name, value + "x"), *pairs[1:]], pairs[1:], [*pairs, ("ANOTHER", "")]):
        assert script_submission(CORPUS, env=changed).submission_id != asked.submission_id
    assert script_submission(CORPUS, env=pairs, artifact="*.bin").submission_id != asked.submission_id
    assert script_submission(CORPUS, MONOLITH + "\n", env=pairs).submission_id != asked.submission_id


@given(env=st.dictionaries(NAMES, VALUES, max_size=5))
def test_an_environment_is_read_as_it_was_written(env):
    """In order, with every value to the letter, an equals sign in it or not; and it survives spec.json."""
    clean = {name: value for name, value in env.items() if not may_be_secret(name, value)}
    pairs = parse_environment([f"{name}={value}" for name, value in clean.items()])
    assert pairs == tuple(clean.items())
    script = Script(name="a.py", env=pairs, artifact="*.x")
    assert Script.from_dict(json.loads(json.dumps(script.to_dict()))) == script


REFUSED = {
    "no value": (["ITERATIONS"], "'ITERATIONS' is no variable"),
    "no name": (["=3"], "is no variable"),
    "a name with a dash": (["MY-NAME=3"], "is no variable"),
    "twice": (["A=1", "B=2", "A=1"], "A stands twice"),
    "the seed": (["SEED=3"], "--seeds sets it"),
    "the data": (["DATA_PATH=/d"], "--data sets it"),
    "a rank": (["RANK=0"], "torchrun sets it"),
    "a port": (["MASTER_PORT=1"], "torchrun sets it"),
    "threads": (["OMP_NUM_THREADS=8"], "--threads sets it"),
    "GPUs": (["CUDA_VISIBLE_DEVICES=0"], "set it for submit itself"),
    "our marker": (["GOLF_ATTEMPT_PROCESS=x"], "belongs to what runs the script"),
    "two lines": (["A=1\n2"], "one printable line"),
}


@pytest.mark.parametrize("given_env, words", REFUSED.values(), ids=REFUSED)
def test_what_is_no_environment_is_refused(given_env, words):
    """Each message names the variable and what is wrong with it."""
    with pytest.raises(UsageError, match="--env") as error:
        parse_environment(given_env)
    assert words in str(error.value)


SECRETS = [
    "HF_TOKEN=swordfish", "WANDB_API_KEY=swordfish", "DB_PASSWORD=swordfish", "CLIENT_SECRET=1234", "mytoken=swordfish",
    "NOTE=hf_" + "swordfish" * 4, "URL=https://me:swordfish@host", "KEYS=swordfish", "hf_" + "swordfish" * 4,
]  # fmt: skip


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_a_secret_is_refused_and_not_repeated(secret):
    """Names of secrets with anything but a number, and values of their form; the message never holds the value."""
    with pytest.raises(UsageError) as error:
        parse_environment([secret])
    assert "swordfish" not in str(error.value) and "1234" not in str(error.value)


@pytest.mark.parametrize("plain", ["TRAIN_BATCH_TOKENS=524288", "TOKENIZER_KIND=sp", "KEY_DIM=64", "QK_KEY_NORM=true"])
def test_numbers_of_tokens_and_keys_are_no_secrets(plain):
    """The challenge's scripts count tokens and keys."""
    assert len(parse_environment([plain])) == 1


def test_a_script_gets_its_machine_and_its_own_environment():
    """What tunes a run comes by --env alone: neither a variable of the caller nor a secret is passed on."""
    ours = {"PATH": "/bin", "HOME": "/root", "ITERATIONS": "7", "HF_TOKEN": "x", "NCCL_DEBUG": "INFO", "LC_ALL": "C"}
    target = Target(device="cpu", threads=2).to_dict()
    got = script_environment(ours, target, {"MUON": "1", "PATH": "/mine"})
    cpu = {"PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2"}
    assert got == {"PATH": "/mine", "HOME": "/root", "LC_ALL": "C", "MUON": "1"} | cpu


def test_a_script_is_taken_to_the_byte(tmp_path):
    """Its line ends and its mark of order stay: what is hashed and counted is the file."""
    for data in (b"x = 1\r\ny = 2\r\n", "\ufeffx = 'ä'\n".encode(), b"# no newline at the end"):
        (tmp_path / "train_gpt.py").write_bytes(data)
        assert read_script(tmp_path / "train_gpt.py").encode() == data


def test_a_script_that_cannot_run_alone_is_refused(tmp_path):
    """What it imports from its folder is named; so is what is no Python, no UTF-8, a folder, or not there."""
    path = tmp_path / "train_gpt.py"
    (tmp_path / "kernels").mkdir()
    for name in ("model.py", "kernels/__init__.py", "unused.py"):
        (tmp_path / name).write_text("")
    path.write_text("import os, model\nfrom kernels.fast import go\n")
    with pytest.raises(UsageError, match=r"imports kernels/__init__.py, model.py beside it"):
        read_script(path)
    for text in (b"def f(:\n", "# -*- coding: latin-1 -*-\nx = 'ä'\n".encode("latin-1"), b"x = 1\0\n"):
        path.write_bytes(text)
        with pytest.raises(UsageError, match="no Python file in UTF-8"):
            read_script(path)
    with pytest.raises(UsageError, match="is a folder"):
        read_script(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        read_script(tmp_path / "absent.py")


def test_hints_name_what_the_script_does_not_read():
    """A misspelt variable gets its nearest; a script that ignores SEED is told of; packed code is not judged."""
    script = Script(name="a.py", env=(("ITERATION", "3"), ("STEP_SECONDS", "0")))
    assert hints(MONOLITH, script) == ["ITERATION is not in the script; did you mean 'ITERATIONS'?"]
    deaf = "import os\nx = os.environ.get('DATA_PATH'), os.environ.get('TOKENIZER_PATH')\n"
    assert hints(deaf, Script(name="a.py")) == ["SEED is not in the script: every run may be the same"]
    assert hints("import os\nexec(unpack(os.environ))\n", script) == hints("print(1)\n", script) == []


def test_a_path_from_here_is_told_of(tmp_path, monkeypatch):
    """The script runs elsewhere: a relative path that leads somewhere here is named with its absolute form."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    env = (("DATA_DIR", "./data/"), ("OUT", "./out"), ("ROOT", str(tmp_path)), ("KIND", "data"))
    (told,) = hints("exec(code)\n", Script(name="a.py", env=env))
    assert told.startswith("DATA_DIR=./data/ is a path from here") and told.endswith(str(tmp_path / "data"))


@pytest.mark.parametrize("glob", ["/etc/*", "../*.bin", "a/../../b", "", "  ", "a\nb"])
def test_an_artifact_outside_of_the_run_is_refused(glob):
    """A glob stays in the folder that the script runs in."""
    with pytest.raises(UsageError, match="--artifact"):
        check_artifact(glob)


EXCLUDED = {
    "a recipe": (["--recipe", "demo"], "excludes --recipe"),
    "overrides": (["--set", "model.layers=3"], "excludes --set"),
    "a bundle": (["--bundle", "train_gpt.py"], "excludes --bundle"),
    "a dtype": (["--dtype", "bf16"], "excludes --dtype"),
    "a secret": (["--env", "HF_TOKEN=swordfish"], "looks like a secret"),
    "an artifact elsewhere": (["--artifact", "/tmp/x"], "leaves the folder"),
}


@pytest.mark.parametrize("arguments, words", EXCLUDED.values(), ids=EXCLUDED)
def test_a_script_excludes_what_belongs_to_recipes(tmp_path, arguments, words):
    """One message, exit code 2, and nothing written."""
    (tmp_path / "train_gpt.py").write_text("print(1)\n")
    done = cli(tmp_path, "submit", "--script", "train_gpt.py", *arguments)
    assert done.returncode == 2 and words in done.stderr and "swordfish" not in done.stderr and done.stdout == ""
    assert os.listdir(tmp_path) == ["train_gpt.py"]


def test_a_recipe_takes_no_environment(tmp_path):
    """--env and --artifact without --script name the way for recipes."""
    for flag in ("--env", "--artifact"):
        done = cli(tmp_path, "submit", flag, "A=1")
        assert done.returncode == 2 and f"{flag} is for --script" in done.stderr, done.stderr


STEPS = {
    "step:200/20000 train_loss:3.1234 train_time:8724ms step_avg:43.62ms": (200, 20000, 3.1234, None),
    "step:300/20000 val_loss:2.33 val_bpb:1.3823 train_time:43898ms": (300, 20000, None, 1.3823),
    "  4971/20000 train_loss: 2.8134 train_time: 8.7m tok/s: 6805522": (4971, 20000, 2.8134, None),
    "1776142347.940 500/20000 train_loss: 3.3339 train_time: 0.8m": (500, 20000, 3.3339, None),
    "step=12 train_loss=5.5 step_avg=9.9ms": (12, None, 5.5, None),
    "warmup_step:3/20": (None, None, None, None),
    "ttt_chunk [3/1893] bpb=1.159980 time=0.5s": (None, None, None, None),
    "train_shards:80 world_size:8 grad_accum_steps:1": (None, None, None, None),
    "step:9/9 train_loss:nan": (9, 9, None, None),
}


@pytest.mark.parametrize("line, shown", STEPS.items(), ids=range(len(STEPS)))
def test_a_step_is_seen_in_the_common_shapes(line, shown):
    """Step, steps, loss and BPB of a line; nothing where it is no step's."""
    progress = Progress(stage="run")
    progress.take_line(line)
    assert (progress.step, progress.steps, progress.loss, progress.bpb) == shown


@given(st.text())
def test_any_line_can_be_looked_at(line):
    """No line of anybody makes the view fail, and what is shown is a count or a number."""
    progress = Progress(stage="run")
    progress.take_line(line)
    assert progress.step is None or progress.step >= 0
    assert all(value is None or isinstance(value, float) for value in (progress.loss, progress.bpb))
