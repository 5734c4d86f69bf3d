"""What Modal's client would use: server, token, profile, environment, proxy. Decided as its modal/config.py decides,
without importing it: a token that is missing and a server that does not answer are told at once, where the client
would tell the one late and wait a minute for the other.

No secret is kept: only that there is a token, and where.
"""

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.cloud.probe import Server, check_servers, read_servers
from orchestrator.errors import CommandError, UsageError

DEFAULT_SERVERS = "https://api.modal.com,https://api.modal2.com"  # the second where the first cannot be reached
NEW_TOKEN = "`modal token new` makes one, `modal token set` writes down one that you have (docs/modal.md)"
FALSE = ("", "0", "false")
TOKEN = ("token_id", "token_secret")
OAUTH = ("oauth_refresh_token", "oauth_client_id", "oauth_client_secret", "oauth_jwt_key")

Profiles = dict[str, dict[str, typing.Any]]


@dataclass(frozen=True)
class Access:
    """`token_source` tells where the token is. None: there is none; `trouble` says why, and `mend` what helps."""

    servers: tuple[Server, ...]
    token_source: str | None
    trouble: str
    mend: str
    profile: str
    config_path: Path
    environment: str | None  # None: the account's default

    @property
    def has_token(self) -> bool:
        return self.token_source is not None

    @property
    def server_url(self) -> str:
        """For people: servers in the order in which they are tried."""
        return ", ".join(server.url for server in self.servers)


class _Config:
    """A setting is of the environment, even where it is empty there, else of the profile."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self.environ = environ
        self.path = Path(environ.get("MODAL_CONFIG_PATH") or home / ".modal.toml")
        self.profiles = {} if environ.get("MODAL_IS_REMOTE") == "1" else _read_profiles(self.path)
        active = [name for name, values in self.profiles.items() if values.get("active") is True]
        self.profile = environ.get("MODAL_PROFILE") or next(iter(active), "default")
        self._check_active()

    def _check_active(self) -> None:
        active = [name for name, values in self.profiles.items() if values.get("active")]
        mend = "`modal profile activate NAME` makes one of them the active one; MODAL_PROFILE=NAME goes before it"
        if len(active) > 1:
            raise UsageError(f"{self.path}: the profiles {', '.join(active)} are all active; {mend}")
        if len(self.profiles) > 1 and not active and self.profile == "default":
            raise UsageError(f"{self.path}: none of the profiles {', '.join(self.profiles)} is active; {mend}")

    def get(self, name: str) -> str | None:
        if (variable := f"MODAL_{name.upper()}") in self.environ:
            return self.environ[variable]
        value = self.profiles.get(self.profile, {}).get(name)
        return value if value is None or isinstance(value, str) else str(value)

    def place(self, name: str) -> str:
        """Where it is, or would be."""
        if (variable := f"MODAL_{name.upper()}") in self.environ or name not in self.profiles.get(self.profile, {}):
            return variable
        return f"{name} of profile {self.profile!r} in {self.path}"


def _read_profiles(path: Path) -> Profiles:
    mend = "it holds a table for each profile, as `modal token set` writes it"
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise UsageError(f"{path}: Modal's configuration cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):  # its words could hold what stands there
        raise UsageError(f"{path}: Modal's configuration is no TOML; {mend}") from None
    if loose := [name for name, values in told.items() if not isinstance(values, dict)]:
        raise UsageError(f"{path}: {', '.join(loose)} stands outside of any profile; {mend}")
    return told


def read_access(environ: Mapping[str, str], home: Path) -> Access:
    """Raises UsageError for a configuration that the client would refuse, or wait a minute with."""
    config = _Config(environ, home)
    source, trouble, mend = _token(config)
    disabled = (config.get("disable_api_proxy") or "").lower() not in FALSE
    text = config.get("server_url")
    return Access(
        servers=read_servers(
            DEFAULT_SERVERS if text is None else text, config.place("server_url"), {} if disabled else environ
        ),
        token_source=source,
        trouble=trouble,
        mend=mend,
        profile=config.profile,
        config_path=config.path,
        environment=config.get("environment") or None,
    )


def _token(config: _Config) -> tuple[str | None, str, str]:
    """Where the token is; or None, what is wrong, and the mend."""
    there = [name for name in TOKEN if config.get(name)]
    oauth = [name for name in OAUTH if config.get(name)]
    if there and oauth:
        places = " and ".join(config.place(name) for name in (there[0], oauth[0]))
        return None, f"a token and an OAuth login at once: {places}", "take one of them away"
    if oauth:
        return _oauth(config, oauth)
    if len(there) == 1:
        absent = TOKEN[1 - TOKEN.index(there[0])]
        empty = "is empty" if f"MODAL_{absent.upper()}" in config.environ else "is not set"
        return None, f"half a token: {config.place(there[0])} is there, and {config.place(absent)} {empty}", NEW_TOKEN
    if there:
        in_file = [name for name in TOKEN if config.place(name) != f"MODAL_{name.upper()}"]
        if len(in_file) == len(TOKEN):
            return f"profile {config.profile!r} in {config.path}", "", ""
        return " and ".join(config.place(name) for name in TOKEN), "", ""
    if config.environ.get("MODAL_PROFILE") and config.profile not in config.profiles:
        known = f"it has {', '.join(config.profiles)}" if config.profiles else "it has none"
        return None, f"MODAL_PROFILE={config.profile}: {config.path} has no such profile, {known}", NEW_TOKEN
    return (
        None,
        f"no token for Modal is known here: MODAL_TOKEN_ID and MODAL_TOKEN_SECRET are not set, and {config.path} has "
        f"none for profile {config.profile!r}",
        NEW_TOKEN,
    )


def _oauth(config: _Config, there: list[str]) -> tuple[str | None, str, str]:
    refresh, client, secret, key = (name in there for name in OAUTH)
    places = ", ".join(config.place(name) for name in there)
    if refresh and client and secret != key:
        return f"OAuth: {places}", "", ""
    mend = "it takes a refresh token, a client id, and either a client secret or a JWT key"
    return None, f"an OAuth login that is not whole: {places}", mend


def check_access(access: Access) -> None:
    """Whether the client could begin to speak. Raises CommandError: 2 for a token, 5 for a server."""
    if not access.has_token:
        raise UsageError(f"{access.trouble}; {access.mend}")
    check_servers(access.servers)


def refused_token(access: Access, said: str) -> CommandError:
    """For a token that the server did not take. What it `said` may quote the token, and is not repeated."""
    expired = ", which has expired" if "expire" in said.lower() else ""
    return UsageError(
        f"{access.server_url} refuses the token of {access.token_source}{expired}. Is it that account's, and whole? "
        f"{NEW_TOKEN}; MODAL_PROFILE chooses another profile of {access.config_path}"
    )
