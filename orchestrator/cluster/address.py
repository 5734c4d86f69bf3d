"""The address of a Ray cluster: what is taken, what is refused and why, and the token that goes with it.

The address is that of the job server (http or https). Whoever reaches it can run code on the cluster, so that plain
http to another machine without a token is refused with the SSH tunnel that does the same safely. A token is found
where Ray looks for it; it is shown nowhere, and its file is tightened to its owner alone.
"""

import ipaddress
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from orchestrator.errors import UsageError

AUTO = "auto"  # on the head itself: its own job server
PORT = 8265  # Ray's own default, for http
OLDEST_RAY = "2.52"  # an older job server runs code for any web page that its user opens: CVE-2025-62593
HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?\.?")
PREFIX = re.compile(r"(?:/[A-Za-z0-9._~%-]+)*/?")  # of a proxy that serves several
TOKEN = re.compile(r"[\x21-\x7e]+")  # what a header can carry


@dataclass(frozen=True)
class Token:
    """`source` names where it was found; the value is in no representation of it."""

    value: str = field(repr=False)
    source: str


@dataclass(frozen=True)
class ClusterAddress:
    """`url` is the job server's, without a trailing slash, or AUTO. `warning` is what was accepted with it."""

    url: str
    token: Token | None = None
    warning: str = ""
    insecure: bool = False  # --insecure was given

    @property
    def loopback(self) -> bool:
        """This machine, or a tunnel that begins on it."""
        return is_loopback(urlsplit(self.url).hostname or "")

    @property
    def far(self) -> bool:
        """Plain http to another machine."""
        return self.url.startswith("http://") and not self.loopback

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries. Never to be logged."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token.value}"}


def read_address(
    text: str, environ: Mapping[str, str], insecure: bool = False, place: str = "--address"
) -> ClusterAddress:
    """The address as it may be used, with the token that this environment has. Raises UsageError."""
    text = text.strip()
    token = find_token(environ)
    if text == AUTO:
        return ClusterAddress(AUTO, token, insecure=insecure)
    parts = _split(text, place)
    url = f"{parts.scheme}://{_netloc(parts)}{parts.path.rstrip('/')}"
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return ClusterAddress(url, token, insecure=insecure)
    if token is not None:
        warning = f"the token and all that is sent travel unencrypted. {_tunnel_advice(parts)}"
        return ClusterAddress(url, token, warning, insecure)
    if insecure:
        warning = f"--insecure: whoever reaches {_netloc(parts)} can run code on the cluster"
        return ClusterAddress(url, None, warning, insecure)
    raise UsageError(
        f"{place} {url}: whoever reaches it can run code on the cluster, and no token is known here. "
        f"{_tunnel_advice(parts)}\nOr start the cluster with RAY_AUTH_MODE=token and name its token with "
        "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH (docs/ray.md); --insecure takes the risk"
    )


def _split(text: str, place: str) -> SplitResult:
    if "@" in text:
        raise UsageError(
            f"{place} ***@{text.rpartition('@')[2]}: no name or password belongs into an address, which is kept "
            "and shown; RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH names the token"
        )
    if "?" in text or "#" in text:
        raise UsageError(
            f"{place} {re.split('[?#]', text)[0]}: `?` and `#` have no meaning here; leave away what follows"
        )
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise UsageError(f"{place} {text}: {error}; the job server's is like http://head:{PORT}") from None
    if parts.scheme == "ray":
        raise UsageError(
            f"{place} {text}: ray:// is Ray's client protocol: its job ends with this process, and it needs Ray and "
            f"Python in the very same version on both sides. Give the job server's, http://{host or 'head'}:{PORT}"
        )
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise UsageError(
            f"{place} {text}: it must be the job server's address, like http://head:{PORT} or https://..., or {AUTO} "
            "on the head itself (6379 is the port of Ray's own nodes)"
        )
    if not (_ip(host) or HOST.fullmatch(host)) or port == 0 or not PREFIX.fullmatch(parts.path):
        raise UsageError(
            f"{place} {text}: {parts.netloc!r} names no machine and port; an address is like http://head:{PORT}"
        )
    return parts


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _netloc(parts: SplitResult) -> str:
    host, port = parts.hostname or "", parts.port
    if port is None and parts.scheme == "http":
        port = PORT
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether it is this machine by its very name: what a name server may answer does not count.

    >>> [is_loopback(one) for one in ("localhost", "127.0.0.9", "::1", "0.0.0.0", "localhost.example")]
    [True, True, True, False, False]
    """
    ip = _ip(host)
    return ip.is_loopback if ip is not None else host.lower().rstrip(".") == "localhost"


def tunnel(host: str, port: int) -> str:
    """The command that brings the port of that machine to the same port here.

    >>> tunnel("head", 8265)
    'ssh -N -L 8265:127.0.0.1:8265 head'
    """
    return f"ssh -N -L {port if port >= 1024 else PORT}:127.0.0.1:{port} {shlex.quote(host)}"


def _tunnel_advice(parts: SplitResult) -> str:
    host, port = parts.hostname or "", parts.port or PORT
    here = port if port >= 1024 else PORT
    return f"Open a tunnel: `{tunnel(host, port)}`, and give --address http://127.0.0.1:{here}{parts.path.rstrip('/')}"


def token_path(environ: Mapping[str, str]) -> Path:
    """Where Ray reads a token that no variable holds."""
    if named := environ.get("RAY_AUTH_TOKEN_PATH"):
        return Path(named).expanduser()
    return Path(environ.get("HOME") or "/nonexistent") / ".ray" / "auth_token"


def find_token(environ: Mapping[str, str]) -> Token | None:
    """RAY_AUTH_TOKEN, else the file that RAY_AUTH_TOKEN_PATH names, else ~/.ray/auth_token; none with
    RAY_AUTH_MODE=disabled. A file that others can read is tightened. Raises UsageError for one that cannot be used."""
    if environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if value := environ.get("RAY_AUTH_TOKEN", "").strip():
        return _token(value, "RAY_AUTH_TOKEN")
    path = token_path(environ)
    try:
        tighten(path)
        value = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        if environ.get("RAY_AUTH_TOKEN_PATH"):
            raise UsageError(f"RAY_AUTH_TOKEN_PATH={path}: there is no such file") from None
        return None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this is no token (it is not ASCII text)") from None
    except OSError as error:
        raise UsageError(f"{path}: the token cannot be read: {error.strerror}") from None
    return _token(value, str(path)) if value else None


def _token(value: str, source: str) -> Token:
    if not TOKEN.fullmatch(value):
        raise UsageError(f"{source} holds no token that a request could carry: one word of ASCII letters is needed")
    return Token(value, source)


def tighten(secret: Path) -> bool:
    """Make a file its owner's alone: Ray writes its token for everybody to read. Tells whether it was not."""
    mode = stat.S_IMODE(secret.stat().st_mode)
    if not mode & 0o077:
        return False
    secret.chmod(0o600)
    return True
