"""Fault 16: secrets planted wherever a user keeps them are found nowhere else, whatever is run and however it fails."""

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.cluster.storage import check_storage, shown
from orchestrator.environment import SECRET, SECRET_VALUE
from orchestrator.errors import UsageError
from tests.orchestrator.toy import toy_text

# Each has a value of its own, so that what leaks names itself.
ENVIRONMENT = {
    "HF_TOKEN": "hf_plantedaaaaaaaaaaaaaaaaaa",
    "RAY_AUTH_TOKEN": "plantedb" * 8,
    "MODAL_TOKEN_SECRET": "as-plantedc",
    "AWS_SECRET_ACCESS_KEY": "planted/d+secret",
    "WANDB_API_KEY": "plantedeeeeeeeeee",
    "DATABASE_URL": "postgres://me:plantedf@db/x",
    "SOME_PASSWORD": "plantedg",
}
FILES = {
    ".ray/auth_token": "plantedh" * 8,
    ".cache/huggingface/token": "hf_plantediiiiiiiiiiiiiiiiii",
    ".modal.toml": '[default]\ntoken_secret = "as-plantedj"\n',
    ".aws/credentials": "[default]\naws_secret_access_key = plantedk\n",
    ".netrc": "machine head login me password plantedl\n",
}
PLANTED = b"planted"


@pytest.fixture
def home(tmp_path):
    """A user's home with all of FILES; as Ray leaves it, anybody may read its token."""
    folder = tmp_path / "home"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / ".ray" / "auth_token").chmod(0o644)
    return folder


def leaks(*folders):
    """Files that hold a planted secret."""
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and PLANTED in path.read_bytes()]


def command(folder, home, monkeypatch, *arguments):
    """What the command says on stdout and stderr, and its exit code, with all that is planted."""
    for name, value in {**ENVIRONMENT, "HOME": str(home), "COLUMNS": "400"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    return done.output, done.exit_code


@pytest.mark.parametrize("behaviour", [{"setup": "environ"}, {"setup": "environ", "train3": "crash"}])
def test_a_run_that_tells_all_it_knows_tells_no_secret(make_bench, home, behaviour):
    """A bundle that prints its environment, and one that fails after that, with --debug: nothing in ledger, attempts,
    bundle, outputs, nor in what submit, status -v and logs print."""
    bench = make_bench(toy_text(behaviour), tables=len(behaviour) == 1)
    bench.extra_env = ENVIRONMENT | {"HOME": str(home), "HARMLESS": "stays"}
    done = bench.run("--seeds", "1", "--debug")
    assert done.returncode == (0 if len(behaviour) == 1 else 1), done.stderr
    said = [done, bench.run("-v", verb="status"), bench.run(verb="logs")]
    assert "HARMLESS=stays" in said[-1].stdout  # it did print them
    assert all("planted" not in one.stdout + one.stderr for one in said)
    assert (bench.runs_dir / "ledger.sqlite").is_file() and leaks(bench.runs_dir) == []


REFUSED = {
    "address_with_password": 'address = "http://me:plantedm@head:8265"\n',
    "address_with_slashed_password": 'address = "http://me:pl/plantedm@head:8265"\n',
    "address_with_token": 'address = "http://head:8265?token=plantedm"\n',
    "storage_with_keys": 'address = "http://127.0.0.1:1"\nstorage = "s3://AKIA:plantedm@bucket/x"\n',
    "storage_with_slashed_keys": 'address = "http://127.0.0.1:1"\nstorage = "s3://AKIA:pl/plantedm@bucket/x"\n',
    "token_as_a_setting": 'token = "plantedm"\n',
    "broken_toml": 'token = "plantedm\n',
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_a_secret_in_the_project_file_is_refused_unshown(tmp_path, home, monkeypatch, text):
    """golf.toml is shared and shown; what looks like a secret there is refused before anything is begun, also with
    --debug, and no message repeats it."""
    (tmp_path / "golf.toml").write_text(text)
    said, code = command(tmp_path, home, monkeypatch, "submit", "--debug", "-y")
    assert code in (2, 5) and "error: " in said and "planted" not in said, said
    assert not (tmp_path / "runs").exists()


def test_the_doctor_tells_where_secrets_are_and_not_what(tmp_path, home, monkeypatch):
    """Of this machine, and of a cluster that is not there; the token's file is tightened, and that is told."""
    said, _ = command(tmp_path, home, monkeypatch, "doctor", "--debug", "--json")
    assert "planted" not in said and "RAY_AUTH_TOKEN" in said and str(home / ".modal.toml") in said
    monkeypatch.setitem(ENVIRONMENT, "RAY_AUTH_TOKEN", "")
    said, code = command(tmp_path, home, monkeypatch, "doctor", "--address", "http://127.0.0.1:1", "--debug")
    assert code == 5 and "planted" not in said and f"{home}/.ray/auth_token (not shown), mode 0644" in said
    assert (home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def test_a_storage_takes_no_credentials():
    """Wherever in the URI they stand; they are not shown."""
    for uri in ("s3://k:planted@b/x", "s3://k:pl/planted@b", "s3://b/pl@x"):
        with pytest.raises(UsageError) as refused:
            check_storage(uri)
        assert "pl" not in str(refused.value).replace("***", "").partition("storage")[2].partition(":")[2][:12]
        assert "planted" not in shown(uri)


def test_names_and_values_of_planted_secrets_are_known_as_such():
    """Each that is planted in the environment is known by its name or its value: what a bundle must not see."""
    assert all(SECRET.search(name) or SECRET_VALUE.search(value) for name, value in ENVIRONMENT.items())
