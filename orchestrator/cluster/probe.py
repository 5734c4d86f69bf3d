"""Who answers at a cluster's address: which Ray, and whether it asks for a token. Without Ray's client.

The first question carries no token: a job server that answers it runs code for anybody.
"""

import http.client
import json
import re
import typing
import urllib.error
import urllib.request
from dataclasses import dataclass

from orchestrator.cluster.address import OLDEST_RAY, ClusterAddress
from orchestrator.errors import BACKEND, USAGE, CommandError
from orchestrator.lock import numbers

SECONDS = 10.0  # for an answer
LONGEST = 65_536  # bytes of one
TOKEN_WANTED = (401, 403)
VERSION = re.compile(r"\d{1,6}(?:\.\d{1,6}){1,3}[A-Za-z0-9.+_-]{0,40}")


class ProbeError(CommandError):
    """What was found, and the mend."""

    def __init__(self, found: str, mend: str, exit_code: int = BACKEND) -> None:
        super().__init__(f"{found}: {mend}")
        self.found, self.mend, self.exit_code = found, mend, exit_code


@dataclass(frozen=True)
class JobServer:
    ray: str  # its version
    asks_token: bool


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    location: str = ""


def probe(address: ClusterAddress, seconds: float = SECONDS) -> JobServer:
    """Ask the job server. Raises ProbeError where it cannot be used, or should not be."""
    answer = _ask(address, {}, seconds)
    asks_token = answer.status in TOKEN_WANTED
    if asks_token:
        if address.token is None:
            raise ProbeError(f"{address.url} asks for a token, and none is known here", TOKEN_MEND, USAGE)
        answer = _ask(address, address.headers, seconds)
        if answer.status in TOKEN_WANTED:
            raise ProbeError(f"{address.url} refuses the token of {address.token.source}", TOKEN_MEND, USAGE)
    ray = _version(address, answer)
    if numbers(ray) < numbers(OLDEST_RAY):
        mend = f"Ray {OLDEST_RAY} or newer is needed on the cluster (CVE-2025-62593)"
        raise ProbeError(f"{address.url} runs Ray {ray}, which runs code for any web page", mend)
    if not asks_token and address.far and not address.insecure:
        raise ProbeError(f"{address.url} asks for no token: whoever reaches it can run code there", OPEN_MEND, USAGE)
    return JobServer(ray, asks_token)


TOKEN_MEND = (
    "put the cluster's token into RAY_AUTH_TOKEN, or name its file with RAY_AUTH_TOKEN_PATH "
    "(on the head, `ray get-auth-token` prints it); with RAY_AUTH_MODE=disabled none is sent"
)
PORT_MEND = "--address is that of Ray's dashboard and job server, by default port 8265 of the head"
OPEN_MEND = (
    "start every node with RAY_AUTH_MODE=token and one token, or let the job server listen on the head's 127.0.0.1 "
    "alone and use a tunnel (docs/ray.md); --insecure takes the risk"
)


def _version(address: ClusterAddress, answer: Answer) -> str:
    if answer.location:
        place = answer.location.partition("?")[0]  # what follows may be a secret of theirs
        raise ProbeError(f"{address.url} sends us on to {place}", "give that address, if it is the cluster's")
    try:
        told: typing.Any = json.loads(answer.body)
        if answer.status == 200 and VERSION.fullmatch(told["ray_version"]):
            return str(told["ray_version"])
    except (ValueError, KeyError, TypeError):
        pass  # told below, as any other answer that is none of Ray's
    raise ProbeError(f"{address.url} answers ({answer.status}), but is no Ray job server", PORT_MEND)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to wherever it points."""

    def redirect_request(self, *_: object) -> None:
        return None


def opener_of(address: ClusterAddress) -> urllib.request.OpenerDirector:
    """Opens what is at the address itself. A proxy of the environment is not asked for this machine's own tunnel: it
    would look for that on its own loopback."""
    direct = [urllib.request.ProxyHandler({})] if address.loopback else []
    return urllib.request.build_opener(_NoRedirect, *direct)


def _ask(address: ClusterAddress, headers: dict[str, str], seconds: float) -> Answer:
    request = urllib.request.Request(f"{address.url}/api/version", headers=headers)
    try:
        with opener_of(address).open(request, timeout=seconds) as answer:
            return Answer(answer.status, answer.read(LONGEST))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(LONGEST), error.headers.get("Location", ""))
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, http.client.BadStatusLine) and not isinstance(error, OSError):
            raise ProbeError(f"{address.url} answers, but is no Ray job server", PORT_MEND) from None  # nor HTTP
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        mend = (
            "is the tunnel up, and the head?"
            if address.loopback
            else "is the head up, and the port open to this machine?"
        )
        raise ProbeError(f"{address.url} does not answer: {reason}", f"{mend} (docs/ray.md)") from None
