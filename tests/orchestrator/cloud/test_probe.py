"""A server that does not answer is told within seconds, with what it is; one that may be Modal's is let through."""

import contextlib
import datetime
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from orchestrator.cloud.access import check_access, read_access
from orchestrator.cloud.probe import check_servers, read_servers
from orchestrator.errors import BACKEND, USAGE, CommandError

pytestmark = pytest.mark.xdist_group("modal")

HTTP2 = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
TOKEN = {"MODAL_TOKEN_ID": "ak-planted", "MODAL_TOKEN_SECRET": "as-planted"}


@contextlib.contextmanager
def listening(answer=None):
    """A port of this machine whose server answers each connection so; None: not at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        if answer is not None:
            threading.Thread(target=_serve, args=(server, answer), daemon=True).start()
        yield server.getsockname()[1]


def _serve(server, answer):
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(answer)
                while connection.recv(1000):  # an earlier end would reset the connection
                    pass


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def check(url, seconds=3.0, **environ):
    check_servers(read_servers(url, "MODAL_SERVER_URL", environ), seconds)


@pytest.mark.parametrize("answer", [HTTP2, None], ids=["HTTP/2", "silence"])
def test_what_may_be_a_server_is_let_through(answer):
    """One that begins as HTTP/2 does, and one that takes the connection and is busy."""
    with listening(answer) as port:
        check(f"http://127.0.0.1:{port}", 0.5)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_another_protocol_is_refused(answer):
    """A web server or anything else at that port."""
    with listening(answer) as port, pytest.raises(CommandError, match="speaks no HTTP/2") as refused:
        check(f"http://127.0.0.1:{port}")
    assert refused.value.exit_code == BACKEND and f"127.0.0.1:{port}" in str(refused.value)


def test_a_plain_server_is_no_https_server():
    """The control plane on loopback, given as https."""
    with listening(HTTP2) as port, pytest.raises(CommandError, match="speaks no TLS"):
        check(f"https://127.0.0.1:{port}")


def certificate(folder):
    """One of 127.0.0.1, signed by nobody."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(plain + signed.public_bytes(Encoding.PEM))
    return folder / "server.pem"


def test_a_tls_server_is_let_through(tmp_path):
    """Whose certificate it shows is the client's to judge: it has its own list of authorities."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as plain, context.wrap_socket(plain, server_side=True) as server:
        threading.Thread(target=_serve, args=(server, b""), daemon=True).start()
        check(f"https://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize(
    "url, reason",
    [
        ("http://127.0.0.1:{closed}", "Connection refused"),
        ("http://no-such-host.invalid:1", "its name is not known here"),
        ("unix:///nonexistent/modal.sock", "No such file"),
    ],
)
def test_an_unreachable_server_is_told_at_once(url, reason):
    """With its address, why, and what to look at: exit code 5, long before the client would give up."""
    began = time.monotonic()
    with pytest.raises(CommandError, match=reason) as refused:
        check(url.format(closed=closed_port()))
    assert refused.value.exit_code == BACKEND and "Nothing was started" in str(refused.value)
    assert time.monotonic() - began < 10


def test_a_server_that_takes_no_connection_is_waited_for_only_so_long():
    """Packets that go nowhere: its backlog is full, so that the kernel does not answer."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        with pytest.raises(CommandError, match="Modal cannot be reached"):
            check(f"http://127.0.0.1:{server.getsockname()[1]}", 0.5)


def test_one_of_several_servers_is_enough():
    """As the client falls back to the second; none of them is told with each reason."""
    with listening(HTTP2) as port:
        check(f"http://127.0.0.1:{closed_port()},http://127.0.0.1:{port}")
    with pytest.raises(CommandError, match=r"Connection refused.*; http://no-such"):
        check(f"http://127.0.0.1:{closed_port()}, http://no-such-host.invalid:1")


def test_a_proxy_without_its_package_is_told(monkeypatch):
    """The client would try for a minute; the message has the package, and the ways around a proxy."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CommandError, match=r"modal\[api-proxy-support\]") as refused:
        check("https://api.modal.com", HTTPS_PROXY="http://me:planted@127.0.0.1:1")
    assert "HTTPS_PROXY" in str(refused.value) and "planted" not in str(refused.value)


def test_behind_a_proxy_the_proxy_is_asked(monkeypatch):
    """The server itself may be out of reach from here."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    with listening(None) as port:
        check("https://no-such-host.invalid", ALL_PROXY=f"socks5://127.0.0.1:{port}")
    with pytest.raises(CommandError, match="Connection refused"):
        check("https://no-such-host.invalid", ALL_PROXY=f"socks5://127.0.0.1:{closed_port()}")


def test_the_token_is_looked_at_before_the_server(tmp_path):
    """No token is a matter of this machine, exit code 2; a server that is not there then one of infrastructure, 5."""
    url = {"MODAL_SERVER_URL": f"http://127.0.0.1:{closed_port()}"}
    codes = []
    for environ in (url, url | TOKEN):
        with pytest.raises(CommandError) as refused:
            check_access(read_access(environ, tmp_path))
        codes.append(refused.value.exit_code)
        assert "planted" not in str(refused.value)
    assert codes == [USAGE, BACKEND]


def test_the_control_plane_on_loopback_is_let_through(tmp_path):
    """While it is there, and not while it cannot be reached."""
    from tests.modal_plane import Plane

    with Plane(tmp_path / "plane") as plane:
        access = read_access(plane.environment(), Path("/nonexistent"))
        check_access(access)
        with plane.unreachable(), pytest.raises(CommandError, match="cannot be reached"):
            check_access(access)
        check_access(access)
    assert plane.errors == []
