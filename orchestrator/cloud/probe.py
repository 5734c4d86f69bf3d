"""Whether one of Modal's servers answers, found in three seconds: its client tries for a minute before it says so.

Looked at is what the client would connect to: a proxy, where the environment names one. What answers is refused only
where it certainly is none: it speaks no TLS where that is asked for, or something else than HTTP/2 where not.
"""

import importlib.util
import queue
import re
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator.errors import BackendFailure, UsageError

SECONDS = 3.0  # for all servers together
STAGGER = 0.2  # before the next one is tried, too: the client prefers the first
PORTS = {"http": 80, "https": 443}
PROXIES = ("http", "socks4", "socks4a", "socks5", "socks5h")  # what the client's own library knows, port included
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty settings
SETTINGS, HEADER_BYTES = 4, 9  # the frame that HTTP/2 begins with


class Unreachable(BackendFailure):
    """What was found, and the mend."""

    def __init__(self, found: str, mend: str) -> None:
        super().__init__(f"{found}; {mend}{'' if mend.endswith('?') else '.'} Nothing was started (docs/modal.md)")
        self.found, self.mend = found, mend


class BadServer(UsageError):
    """Named is what is no server, or no proxy."""


@dataclass(frozen=True)
class Proxy:
    """`shown` is without name and password. `variable`: where it is named."""

    host: str
    port: int
    shown: str
    variable: str


@dataclass(frozen=True)
class Server:
    """One of those that a client tries. Of a unix socket `host` is its path."""

    url: str
    host: str
    port: int = 0
    tls: bool = False
    proxy: Proxy | None = None


def read_servers(text: str, place: str, environ: Mapping[str, str]) -> tuple[Server, ...]:
    """Of a list with commas. Raises BadServer for what the client cannot connect to."""
    return tuple(_server(one.strip(), place, environ) for one in text.split(","))


def _server(url: str, place: str, environ: Mapping[str, str]) -> Server:
    form = "it must be like https://api.modal.com, or http://127.0.0.1:PORT for a control plane of your own"
    if "@" in url:
        raise BadServer(f"{place}=***@{url.rpartition('@')[2]}: no name or password belongs into it; {form}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadServer(f"{place}={url!r} is no server's address: {form}") from None
    if parts.scheme == "unix" and parts.path:
        return Server(url, parts.path)
    # The client takes it apart at each colon, so that it has no IPv6 addresses.
    if parts.scheme not in PORTS or not parts.hostname or not re.fullmatch(r"[^:]+(:\d+)?", parts.netloc) or port == 0:
        raise BadServer(f"{place}={url!r} is no server's address: {form}")
    tls = parts.scheme == "https"
    port = port or PORTS[parts.scheme]
    return Server(f"{parts.scheme}://{parts.netloc}", parts.hostname, port, tls, proxy_of(parts.hostname, tls, environ))


def proxy_of(host: str, tls: bool, environ: Mapping[str, str]) -> Proxy | None:
    """Through what the client would go: as urllib reads the environment."""
    named = _proxies(environ)
    if urllib.request.proxy_bypass_environment(host, {name: value for name, (_, value) in named.items()}):  # type: ignore[attr-defined]
        return None
    variable, value = named.get("https" if tls else "http") or named.get("all") or ("", "")
    if not value:
        return None
    try:
        parts = urlsplit(value)
        through, port = parts.hostname, parts.port
    except ValueError:
        through, port = None, None
    if not through or not port or parts.scheme not in PROXIES:
        raise BadServer(
            f"{variable} names no proxy that Modal's client knows; it must be like http://proxy:3128 or "
            "socks5://proxy:1080. MODAL_DISABLE_API_PROXY=1 goes there directly, as does what NO_PROXY names"
        )
    return Proxy(through, port, f"{parts.scheme}://{through}:{port}", variable)


def _proxies(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Scheme -> variable and value. A name in small letters goes before, and an empty one takes the other away."""
    found = {
        name.lower().removesuffix("_proxy"): (name, value)
        for name, value in environ.items()
        if name.lower().endswith("_proxy") and value
    }
    if "REQUEST_METHOD" in environ:  # a web server's child: HTTP_PROXY there is whatever its visitor sent
        found.pop("http", None)
    for name, value in environ.items():
        if name.endswith("_proxy"):
            scheme = name.removesuffix("_proxy").lower()
            if value:
                found[scheme] = (name, value)
            else:
                found.pop(scheme, None)
    return found


def check_servers(servers: Sequence[Server], seconds: float = SECONDS) -> None:
    """Returns where one answers. Raises Unreachable where none does."""
    for server in servers:
        if server.proxy is not None and importlib.util.find_spec("python_socks") is None:
            raise Unreachable(
                f"{server.proxy.variable} sends Modal's client through {server.proxy.shown}, and it lacks a package "
                "for that",
                "pip install 'modal[api-proxy-support]', or go there directly: MODAL_DISABLE_API_PROXY=1, or NO_PROXY",
            )
    answers: queue.Queue[tuple[Server, str]] = queue.Queue()
    deadline = time.monotonic() + seconds
    for number, server in enumerate(servers):  # a name server cannot be given a deadline: threads that may be left
        work = (server, number * STAGGER, deadline, answers)
        threading.Thread(target=_ask, args=work, daemon=True).start()
    failed: dict[str, str] = {}
    while len(failed) < len(servers):
        try:
            server, reason = answers.get(timeout=max(0.0, deadline + STAGGER - time.monotonic()))
        except queue.Empty:
            break
        if not reason:
            return
        failed[server.url] = reason
    told = "; ".join(f"{one.url}: {failed.get(one.url, f'no answer within {seconds:g} s')}" for one in servers)
    default = any(one.host.endswith(".modal.com") for one in servers)
    mend = "is this machine on the network?" if default else "is it running, and is MODAL_SERVER_URL what you mean?"
    raise Unreachable(f"Modal cannot be reached ({told})", mend)


def _ask(server: Server, delay: float, deadline: float, answers: "queue.Queue[tuple[Server, str]]") -> None:
    time.sleep(delay)
    try:
        answers.put((server, _fault(server, deadline)))
    except TimeoutError:
        answers.put((server, "no answer in time"))
    except socket.gaierror as error:
        answers.put((server, f"its name is not known here ({error.strerror})"))
    except OSError as error:
        answers.put((server, error.strerror or str(error)))


def _fault(server: Server, deadline: float) -> str:
    """Empty where it may be a server of Modal's. Raises OSError."""
    left = max(0.1, deadline - time.monotonic())
    if not server.port:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(left)
            connection.connect(server.host)
        return ""
    host, port = (server.host, server.port) if server.proxy is None else (server.proxy.host, server.proxy.port)
    with socket.create_connection((host, port), timeout=left) as connection:
        if server.proxy is not None:
            return ""
        connection.settimeout(max(0.1, deadline - time.monotonic()) / 2)
        return _no_tls(connection, server.host) if server.tls else _no_http2(connection)


def _no_tls(connection: socket.socket, host: str) -> str:
    """Whose certificate it is, the client will look at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(connection, server_hostname=host):
            return ""
    except TimeoutError:
        return ""  # it took the connection, and is busy
    except ssl.SSLError as error:
        return f"what answers there speaks no TLS ({error.reason})"


def _no_http2(connection: socket.socket) -> str:
    connection.sendall(PREFACE)
    said = b""
    try:
        while len(said) < HEADER_BYTES and (more := connection.recv(HEADER_BYTES - len(said))):
            said += more
    except TimeoutError:
        return ""  # it took the connection, and is busy
    if len(said) == HEADER_BYTES and said[3] == SETTINGS:
        return ""
    return "what answers there is no server of Modal's (it speaks no HTTP/2)"
