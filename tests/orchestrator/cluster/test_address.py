"""Addresses of clusters: what is refused and with which mend, where tokens are found, what is asked before they go."""

import http.server
import json
import socket
import string
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cluster.address import (
    AUTO,
    ClusterAddress,
    find_token,
    read_address,
    tighten,
    tunnel,
)
from orchestrator.cluster.probe import ProbeError, probe
from orchestrator.errors import UsageError

SECRET = "f00dfacef00dfacef00dface"
NOBODY = {"HOME": "/nonexistent"}
WITH_TOKEN = NOBODY | {"RAY_AUTH_TOKEN": SECRET}
HOSTS = st.text("az09-._", min_size=1, max_size=9).map(lambda text: f"h{text}9")
PORTS = st.integers(1, 65535)


@pytest.mark.parametrize(
    "text, url",
    [
        ("http://127.0.0.1:8265/", "http://127.0.0.1:8265"),
        (" http://localhost ", "http://localhost:8265"),
        ("http://[::1]:9000", "http://[::1]:9000"),
        ("https://ray.example/cluster-1/", "https://ray.example/cluster-1"),
        ("HTTPS://Ray.Example:8443", "https://ray.example:8443"),
        ("auto", AUTO),
    ],
)
def test_a_safe_address_needs_no_token(text, url):
    """Loopback, https, and auto: taken as they are, with Ray's port where none is given; there is no risk to name."""
    assert read_address(text, NOBODY) == ClusterAddress(url)


@given(HOSTS, PORTS)
def test_plain_http_to_another_machine_needs_a_token_or_a_word(host, port):
    """Refused with the tunnel's command and the address to give then; a token or --insecure has it taken, with the risk
    named."""
    text = f"http://{host}:{port}"
    with pytest.raises(UsageError) as refused:
        read_address(text, NOBODY)
    here = port if port >= 1024 else 8265
    assert f"`ssh -N -L {here}:127.0.0.1:{port} {host}`" in str(refused.value)
    assert f"--address http://127.0.0.1:{here}" in str(refused.value) and "--insecure" in str(refused.value)
    assert read_address(f"http://127.0.0.1:{here}", NOBODY).token is None  # what is advised is taken
    risked = read_address(text, NOBODY, insecure=True)
    assert "can run code" in risked.warning and risked.headers == {} and risked.insecure
    sent = read_address(text, WITH_TOKEN)
    assert "unencrypted" in sent.warning and sent.headers == {"Authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize(
    "text, words",
    [
        ("ray://head:10001", "http://head:8265"),
        ("head:8265", "http://head:8265"),
        ("10.0.0.1:6379", "6379 is the port of Ray's own nodes"),
        ("head", "on the head itself"),
        ("", "on the head itself"),
        ("ftp://head", "http://head:8265"),
        ("http://", "http://head:8265"),
        ("http://head:port", "http://head:8265"),
        ("http://head:70000", "out of range"),
        ("http://head:0", "names no machine"),
        ("http://-oProxyCommand=x", "names no machine"),
        ("http://a b/", "names no machine"),
        ("http://head/a b", "names no machine"),
        ("http://[::1", "http://head:8265"),
        ("http://head?token=1", "leave away"),
        ("http://head#x", "leave away"),
    ],
)
def test_what_is_no_address_is_refused_with_one_that_is(text, words):
    """The value, the place, and what to give instead, whatever the token."""
    for environ in (NOBODY, WITH_TOKEN):
        with pytest.raises(UsageError) as refused:
            read_address(text, environ, insecure=True, place="golf.toml: address")
        assert words in str(refused.value) and str(refused.value).startswith("golf.toml: address")


@given(st.text(string.ascii_letters + string.digits + ":/%.", min_size=8, max_size=20))
def test_a_password_in_an_address_is_refused_and_not_repeated(password):
    """Addresses are kept and shown; what stands before an @ is neither."""
    with pytest.raises(UsageError) as refused:
        read_address(f"https://{SECRET}:{password}@head:8265", NOBODY)
    assert SECRET not in str(refused.value) and f":{password}@" not in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_clear_refusal(text):
    """Whatever is given: a UsageError of few lines, or an address without anything that a shell or a header would act
    on, and which reads as itself."""
    try:
        read = read_address(text, NOBODY, insecure=True)
    except UsageError as error:
        assert str(error).startswith("--address")
        return
    assert read.url == AUTO or set(read.url) <= set(string.ascii_letters + string.digits + ":/.-_~%[]")
    assert read_address(read.url, NOBODY, insecure=True) == read


def test_a_tunnel_leads_to_a_port_that_a_user_may_open():
    """The same port here, but for one below 1024, which only root could take."""
    assert tunnel("head", 8265) == "ssh -N -L 8265:127.0.0.1:8265 head"
    assert tunnel("head", 80) == "ssh -N -L 8265:127.0.0.1:80 head"


def test_a_token_is_found_where_ray_finds_it(tmp_path):
    """Variable, then the file that a variable names, then ~/.ray/auth_token; none with RAY_AUTH_MODE=disabled."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-home\n")
    (tmp_path / "named").write_text("  of-path  ")
    environ = {"HOME": str(tmp_path)}
    assert find_token(environ).value == "of-home"
    environ["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "named")
    found = find_token(environ)
    assert (found.value, found.source) == ("of-path", str(tmp_path / "named"))
    environ["RAY_AUTH_TOKEN"] = SECRET
    assert (find_token(environ).value, find_token(environ).source) == (SECRET, "RAY_AUTH_TOKEN")
    assert SECRET not in repr(find_token(environ)) + repr(read_address("https://x", environ))
    assert find_token(environ | {"RAY_AUTH_MODE": "disabled"}) is None
    assert find_token(NOBODY) is None


@pytest.mark.parametrize("content", ["two words", "line\nbreak", "é", "\x7f"])
def test_a_token_that_no_header_could_carry_is_refused_unshown(content, tmp_path):
    """By its file's name alone; a named file that is not there, too. An empty one is none."""
    path = tmp_path / "token"
    path.write_text(content)
    environ = {"RAY_AUTH_TOKEN_PATH": str(path)}
    with pytest.raises(UsageError) as refused:
        find_token(environ)
    assert str(path) in str(refused.value) and content not in str(refused.value)
    path.write_text("\n")
    assert find_token(environ) is None
    path.unlink()
    with pytest.raises(UsageError, match="no such file"):
        find_token(environ)


@pytest.mark.parametrize(
    "mode, after", [(0o644, 0o600), (0o666, 0o600), (0o640, 0o600), (0o600, 0o600), (0o400, 0o400)]
)
def test_a_token_file_is_tightened_to_its_owner(mode, after, tmp_path):
    """Ray writes it with 0644; whoever uses it here leaves it with 0600, or stricter where it was."""
    path = tmp_path / "token"
    path.write_text(SECRET)
    path.chmod(mode)
    assert find_token({"RAY_AUTH_TOKEN_PATH": str(path)}).value == SECRET
    assert path.stat().st_mode & 0o777 == after and not tighten(path)


class JobServer(http.server.BaseHTTPRequestHandler):
    """Answers as Ray's does, or as the test says; remembers the headers it got."""

    token: str | None = None
    answer: tuple[int, bytes, dict[str, str]] | None = None
    seen: list[str | None] = []  # noqa: RUF012

    def do_GET(self) -> None:
        given = self.headers["Authorization"]
        self.seen.append(given)
        status, body, headers = self.answer or (200, json.dumps({"ray_version": "2.60.0"}).encode(), {})
        if self.token is not None and given != f"Bearer {self.token}":
            status, body, headers = (401 if given is None else 403), b"Unauthorized", {}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    JobServer.token, JobServer.answer, JobServer.seen = None, None, []
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), JobServer)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


def asked(url, environ=NOBODY, **more):
    return probe(read_address(url, environ, **more))


def test_a_token_is_sent_only_to_a_server_that_asks_for_one(server):
    """An open server never sees it; one that asks takes it, refuses it, or is told that there is none."""
    assert asked(server, WITH_TOKEN).asks_token is False and JobServer.seen == [None]
    JobServer.token = SECRET
    assert asked(server, WITH_TOKEN).asks_token is True and JobServer.seen[1:] == [None, f"Bearer {SECRET}"]
    with pytest.raises(ProbeError, match="none is known here") as error:
        asked(server)
    assert error.value.exit_code == 2 and "RAY_AUTH_TOKEN_PATH" in error.value.mend
    with pytest.raises(ProbeError, match="refuses the token of RAY_AUTH_TOKEN") as error:
        asked(server, NOBODY | {"RAY_AUTH_TOKEN": "other" + SECRET})
    assert SECRET not in str(error.value)


def test_an_open_server_of_another_machine_is_refused_though_a_token_is_known(server):
    """A token that nobody asks for protects nothing: any machine that used Ray has one. --insecure takes it."""
    far = ClusterAddress(server.replace("127.0.0.1", "0.0.0.0"), find_token(WITH_TOKEN))
    with pytest.raises(ProbeError, match="asks for no token") as error:
        probe(far)
    assert error.value.exit_code == 2 and "RAY_AUTH_MODE=token" in error.value.mend
    assert probe(ClusterAddress(far.url, None, insecure=True)).ray == "2.60.0"


@pytest.mark.parametrize(
    "answer, words",
    [
        ((200, b'{"ray_version": "2.51.9"}', {}), "CVE-2025-62593"),
        ((200, b'{"ray_version": "' + b"9" * 5000 + b'"}', {}), "no Ray job server"),
        ((200, b'{"ray_version": 2}', {}), "no Ray job server"),
        ((200, b"<html>", {}), "no Ray job server"),
        ((200, b"[]", {}), "no Ray job server"),
        ((500, b"{}", {}), "answers (500)"),
        ((404, b"", {}), "port 8265"),
        ((302, b"", {"Location": f"https://login.example/?back={SECRET}"}), "sends us on to https://login.example/"),
    ],
)
def test_what_is_no_good_job_server_is_told_as_that(server, answer, words):
    """Too old, another program, a login page: what answered, what is meant; a redirect is not followed."""
    JobServer.answer = answer
    with pytest.raises(ProbeError) as error:
        asked(server, WITH_TOKEN)
    assert words in str(error.value) and SECRET not in str(error.value) and len(JobServer.seen) == 1


def test_a_tunnel_is_not_asked_of_a_proxy(server, monkeypatch):
    """A proxy of the environment would get the token that is meant for this machine's own port."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert asked(server).ray == "2.60.0"


def test_where_nothing_answers_the_tunnel_is_asked_about():
    """Exit code 5, the address, and what to look at."""
    with pytest.raises(ProbeError, match=r"does not answer.*tunnel") as error:
        asked("http://127.0.0.1:1")
    assert error.value.exit_code == 5 and Path(error.value.mend.split("(")[1].rstrip(")")).name == "ray.md"


def test_a_port_that_speaks_no_http_is_named_as_the_wrong_one():
    """Such as that of Ray's own nodes: not its bytes are shown, but which port is meant."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"\x00\x00\x18\x04\x00\x00\x00\x00\x00\x1b[31m")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ProbeError, match=r"no Ray job server: .* port 8265") as error:
            asked(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert str(error.value).isprintable()
