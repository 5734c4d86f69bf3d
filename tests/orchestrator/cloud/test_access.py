"""What Modal's client would use, told without it: held against the client itself, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cloud.access import read_access, refused_token
from orchestrator.errors import USAGE, UsageError

SECRET = "planted"

# What the client decides in an environment; tokens come back as a pair, so that one can be told from another.
CLIENT = """
import importlib, json, os, sys
import modal.client
import modal.config as config
from modal._utils.proxy_support import get_proxy_url

made = []
async def opened(client):
    made.append(client)
modal.client._Client._open = opened
base = dict(os.environ)
for line in sys.stdin:
    os.environ.clear()
    os.environ.update(base | json.loads(line))
    told = {}
    modal.client._Client._client_from_env = None
    try:
        importlib.reload(config)
        told["profile"], told["environment"] = config._profile, config.config["environment"]
        modal.Client.from_env()
        told["token"], told["oauth"] = made[-1]._credentials, made[-1]._oauth_credentials is not None
        told["server"] = made[-1].server_url
    except Exception as error:
        told["error"] = type(error).__name__
    told["proxies"] = {}
    for name, tls in (("modal.example", True), ("modal.example", False), ("127.0.0.1", False)):
        try:
            told["proxies"][f"{name} {tls}"] = get_proxy_url(name, use_ssl=tls)
        except Exception as error:
            told["proxies"][f"{name} {tls}"] = type(error).__name__
    print(json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Asks the real client what it takes from an environment."""
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
    )

    def ask(environ):
        process.stdin.write(json.dumps(environ) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    ask.home = home
    yield ask
    with process:
        process.stdin.close()


WHOLE = st.just({"token_id": "ak-1", "token_secret": "as-1"})
HALF = st.sampled_from(
    [{"token_id": "ak-2"}, {"token_secret": "as-2"}, {"token_id": "", "token_secret": "as-2"}, {"token_secret": ""}]
)
OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "active": st.booleans(),
        "server_url": st.sampled_from(["http://127.0.0.1:1", "https://a.example,https://b.example:8443"]),
        "environment": st.sampled_from(["", "dev"]),
        "oauth_client_id": st.sampled_from(["", "oc"]),
        "disable_api_proxy": st.booleans(),
    },
)
PROFILES = st.dictionaries(
    st.sampled_from(["default", "team", "mine"]),
    st.builds(lambda a, b: a | b, WHOLE | WHOLE | HALF, OTHERS),
    max_size=3,
)
VARIABLES = st.builds(
    lambda token, others: {f"MODAL_{name.upper()}": value for name, value in token.items()} | others,
    st.just({}) | st.just({}) | WHOLE | HALF,
    st.fixed_dictionaries(
        {},
        optional={
            "MODAL_PROFILE": st.sampled_from(["", "team", "absent"]),
            "MODAL_SERVER_URL": st.sampled_from(["http://localhost:7", "https://c.example"]),
            "MODAL_ENVIRONMENT": st.sampled_from(["", "main"]),
        },
    ),
)
OAUTH = st.fixed_dictionaries(
    {},
    optional={
        f"MODAL_OAUTH_{name}": st.sampled_from(["", "o"])
        for name in ("REFRESH_TOKEN", "CLIENT_ID", "CLIENT_SECRET", "JWT_KEY")
    },
)


def toml(profiles):
    lines = []
    for name, values in profiles.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


@settings(max_examples=150, deadline=None)
@given(profiles=st.none() | PROFILES, variables=VARIABLES, oauth=st.just({}) | st.just({}) | OAUTH)
def test_the_client_itself_decides_so(client, profiles, variables, oauth):
    """Profile, environment, server, and whether there is a token that it would send: as the installed client has it."""
    path = client.home / "modal.toml"
    path.unlink(missing_ok=True)
    if profiles is not None:
        path.write_text(toml(profiles))
    environ = variables | oauth | {"MODAL_CONFIG_PATH": str(path)}
    real = client(environ)
    try:
        told = read_access(environ, Path("/nonexistent"))
    except UsageError:
        assert real["error"] == "InvalidError"
        return
    assert (told.profile, told.environment) == (real["profile"], real["environment"] or None)
    assert told.has_token == ("error" not in real), told.trouble
    if told.has_token:
        assert [one.url for one in told.servers] == real["server"].split(",")
        assert bool(told.trouble) is False and told.token_source.startswith("OAuth") == real["oauth"]


PROXY = st.sampled_from(["", "http://proxy:3128", "socks5://me:planted@other:1080"])


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["HTTP_PROXY", "http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"]), PROXY
    ),
    st.sampled_from([{}, {"NO_PROXY": "127.0.0.1,localhost"}, {"no_proxy": ".example"}, {"NO_PROXY": "*"}]),
    st.sampled_from([{}, {"REQUEST_METHOD": "GET"}, {"MODAL_DISABLE_API_PROXY": "1"}]),
    st.sampled_from([{}, {"MODAL_DISABLE_API_PROXY": "0"}]),
)
def test_a_proxy_is_the_one_that_the_client_would_take(client, named, exempt, more, disabled):
    """Of the environment, in urllib's order; and what is shown of it holds no password."""
    environ = named | exempt | disabled | more
    real = client(environ)["proxies"]
    for host, tls in (("modal.example", True), ("modal.example", False), ("127.0.0.1", False)):
        url = f"{'https' if tls else 'http'}://{host}:5"
        proxy = read_access(environ | {"MODAL_SERVER_URL": url}, client.home).servers[0].proxy
        expected = real[f"{host} {tls}"]
        assert (None if proxy is None else proxy.shown) == (expected and expected.replace("me:planted@", ""))
        assert SECRET not in repr(proxy)


def test_without_anything_it_is_modals_own_server_and_no_token(client):
    """The defaults of the client of this version: where they change, this says so."""
    told = read_access({}, client.home / "empty")
    assert [server.url for server in told.servers] == ["https://api.modal.com", "https://api.modal2.com"]
    assert not told.has_token and "modal token new" in told.mend and str(client.home / "empty") in told.trouble
    first = told.servers[0]
    assert (first.host, first.port, first.tls) == ("api.modal.com", 443, True)


@pytest.mark.parametrize(
    "environ, profiles, said",
    [
        ({"MODAL_TOKEN_ID": "ak-planted"}, {}, "MODAL_TOKEN_ID is there, and MODAL_TOKEN_SECRET is not set"),
        ({"MODAL_TOKEN_SECRET": "planted"}, {}, "MODAL_TOKEN_SECRET is there, and MODAL_TOKEN_ID is not set"),
        (
            {"MODAL_TOKEN_SECRET": ""},
            {"default": {"token_id": "ak-planted", "token_secret": "as-planted"}},
            "MODAL_TOKEN_SECRET is empty",
        ),
        ({"MODAL_PROFILE": "mine"}, {"team": {"token_id": "ak-planted"}}, "has no such profile, it has team"),
        ({}, {"team": {"active": True, "token_id": "planted"}}, "token_id of profile 'team' in"),
        (
            {"MODAL_TOKEN_ID": "planted", "MODAL_OAUTH_CLIENT_ID": "planted"},
            {},
            "MODAL_TOKEN_ID and MODAL_OAUTH_CLIENT_ID",
        ),
        ({"MODAL_OAUTH_CLIENT_ID": "planted"}, {}, "an OAuth login that is not whole: MODAL_OAUTH_CLIENT_ID"),
    ],
)
def test_what_is_wrong_with_a_token_is_told_by_place(environ, profiles, said, tmp_path):
    """Half a token, an emptied variable, a profile that is not there: where each half is, never what it is."""
    (tmp_path / ".modal.toml").write_text(toml(profiles))
    told = read_access(environ, tmp_path)
    assert not told.has_token and said in told.trouble and told.mend
    assert SECRET not in repr(told) + told.trouble


def test_a_token_is_told_by_place_alone(tmp_path):
    """Whole in the environment, whole in a profile, or one half in each; no representation holds any of it."""
    both = {"token_id": "ak-planted", "token_secret": "as-planted"}
    (tmp_path / ".modal.toml").write_text(toml({"team": both | {"active": True}}))
    environ = {f"MODAL_{name.upper()}": value for name, value in both.items()}
    half = {"MODAL_TOKEN_ID": "ak-planted"}
    told = [read_access(one, tmp_path) for one in (environ, {}, half)]
    assert told[0].token_source == "MODAL_TOKEN_ID and MODAL_TOKEN_SECRET"
    assert told[1].token_source == f"profile 'team' in {tmp_path / '.modal.toml'}"
    assert told[2].token_source.startswith("MODAL_TOKEN_ID and token_secret of profile 'team'")
    refusal = refused_token(told[0], "Token validation failed: no account has the token 'ak-planted'")
    assert refusal.exit_code == USAGE and "refuses the token of MODAL_TOKEN_ID and MODAL_TOKEN_SECRET" in str(refusal)
    assert "which has expired" in str(refused_token(told[0], "Token is expired"))
    assert SECRET not in repr(told) + str(refusal)


@pytest.mark.parametrize("text", ["token_id = 'planted'\n", "[default\nplanted", "[default]\ntoken_id = planted\n"])
def test_a_broken_configuration_is_named_and_not_quoted(text, tmp_path):
    """It may hold a token: the file is named, and nothing of it is repeated."""
    (tmp_path / ".modal.toml").write_text(text)
    with pytest.raises(UsageError, match=r"\.modal\.toml: ") as refused:
        read_access({}, tmp_path)
    assert SECRET not in str(refused.value) and "modal token set" in str(refused.value)


def test_several_profiles_need_an_active_one(tmp_path):
    """None active, or two: the client would refuse at its first use; MODAL_PROFILE alone settles the first."""
    path = tmp_path / ".modal.toml"
    path.write_text(toml({"a": {}, "b": {}}))
    with pytest.raises(UsageError, match="none of the profiles a, b is active; `modal profile activate"):
        read_access({}, tmp_path)
    assert read_access({"MODAL_PROFILE": "b"}, tmp_path).profile == "b"
    path.write_text(toml({"a": {"active": True}, "b": {"active": True}}))
    with pytest.raises(UsageError, match="the profiles a, b are all active"):
        read_access({}, tmp_path)


@pytest.mark.parametrize(
    "url", ["", "api.modal.com", "ftp://x", "http://[::1]:9", "http://h:0", "http://h:", "http://h:99999", "https://"]
)
def test_a_server_that_the_client_cannot_connect_to_is_refused(url, tmp_path):
    """The client would try for a minute what cannot be an address; the variable is named."""
    with pytest.raises(UsageError, match="MODAL_SERVER_URL=") as refused:
        read_access({"MODAL_SERVER_URL": url}, tmp_path)
    assert refused.value.exit_code == USAGE


def test_a_server_url_with_a_password_is_refused_unshown(tmp_path):
    """It is kept nowhere, and the message has only what stands after it."""
    with pytest.raises(UsageError, match=r"MODAL_SERVER_URL=\*\*\*@host") as refused:
        read_access({"MODAL_SERVER_URL": "http://me:planted@host:1"}, tmp_path)
    assert SECRET not in str(refused.value)


def test_a_proxy_that_the_client_does_not_know_is_refused_unshown(tmp_path):
    """Without a port or with another scheme the client would fail, after a minute."""
    for value in ("https://me:planted@proxy:1", "http://planted", "planted"):
        with pytest.raises(UsageError, match="HTTPS_PROXY names no proxy") as refused:
            read_access({"HTTPS_PROXY": value}, tmp_path)
        assert SECRET not in str(refused.value)
