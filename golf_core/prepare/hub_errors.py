"""What can go wrong between us and the hub, and what each fault means for whoever asked.

* DataError (of shards.py)  what was asked for is not there: repository, revision, variant, number of shards
* HubError                  the hub, the way to it, or what it sent; nothing of ours is lost, the same call goes on
  - HubFault                it may pass: asked again after a while, and an error only when it stays

No message holds a word of the server's or a header of ours: a token must not come back in one.
"""

import os
import re
import socket
import typing

import httpx2
from huggingface_hub import get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from golf_core.data.shards import DataError

PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that another try may not get
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
LONGEST_PAUSE = 300  # seconds: more than a hub may ask us to wait


class HubError(Exception):
    """The hub or the way to it failed; the message says what to do next."""


class HubFault(HubError):
    """One that may pass. `pause`: seconds that the hub asked for before another try."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class HubStopped(Exception):
    """Another file failed, or the user ended the fetch: leave what is there."""


def translated(error: Exception, what: str, repo: str, endpoint: str) -> Exception:
    """`error` of the client in our words; `what` is the file or the question, for the message."""
    if isinstance(error, OfflineModeIsEnabled):
        return DataError(f"{what}: HF_HUB_OFFLINE is set, so no hub is asked; unset it. --status tells what is here")
    if isinstance(error, HFValidationError):
        return DataError(f"--repo {repo!r} is no name of a repository; it looks like owner/name")
    if isinstance(error, RevisionNotFoundError):
        return DataError(f"{repo} has no such revision ({what}); without --revision its newest is taken")
    if isinstance(error, HfHubHTTPError):
        return _refused(error, what, repo, endpoint)
    if isinstance(error, httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol):
        way = "".join(f"; {name} is set" for name in os.environ if name.lower() in PROXIES)  # its value may be secret
        return HubFault(f"{endpoint} cannot be reached for {what} ({_reason(error)}{way})")
    if isinstance(error, httpx2.HTTPError | httpx2.InvalidURL):
        return HubError(
            f"{endpoint} cannot be asked for {what} ({_reason(error)}); HF_ENDPOINT must be the URL of a hub"
        )
    return error


def _refused(error: HfHubHTTPError, what: str, repo: str, endpoint: str) -> Exception:
    code = error.response.status_code
    sent = "the token that was sent does not suffice" if get_token() else "no token was sent"
    if isinstance(error, GatedRepoError) or code == 403:
        return HubError(
            f"{endpoint} refuses {what} ({code}): {repo} is gated, and {sent}; accept its terms at "
            f"{endpoint}/datasets/{repo}, then set HF_TOKEN or run `hf auth login`"
        )
    if isinstance(error, RepositoryNotFoundError) or code == 401:
        return DataError(
            f"{endpoint} has no dataset repository {repo}, or hides it ({code} for {what}; {sent}); "
            "check --repo, or set HF_TOKEN"
        )
    if code == 404:
        return DataError(f"{endpoint} has no {what} (404) in {repo}; check --repo and --revision")
    if code in PASSING:
        return HubFault(f"{endpoint} answers {code} for {what}", _pause(error.response.headers))
    return HubError(f"{endpoint} answers {code} for {what}; try again later, or another --revision")


def _pause(headers: typing.Mapping[str, str]) -> float | None:
    """Seconds that the hub asks us to wait, of one of the two headers it has for it."""
    asked = headers.get("retry-after", "")
    if not asked.isdecimal():
        found = re.search(r";\s*t\s*=\s*(\d+)", headers.get("ratelimit", ""))
        asked = found[1] if found else ""
    return float(min(int(asked), LONGEST_PAUSE)) if asked and len(asked) < 10 else None


def _reason(error: Exception) -> str:
    """The system's word for it where there is one, else the kind of the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
        if isinstance(cause, OSError) and cause.errno and cause.errno > 0:
            return os.strerror(cause.errno)
        cause = cause.__cause__ or cause.__context__
    known = {
        "ConnectError": "no connection",
        "ReadTimeout": "no answer in time",
        "ConnectTimeout": "no connection in time",
        "RemoteProtocolError": "the connection was cut",
        "ReadError": "the connection was cut",
    }
    return known.get(type(error).__name__, type(error).__name__)
