"""Policies: the gates of a race as data. A TOML file beside this module, or one that a user names by path."""

import tomllib
import typing
from dataclasses import asdict, dataclass
from pathlib import Path

from golf_core.config_io import from_dict
from golf_core.fields import ConfigError, nearest, require

FOLDER = Path(__file__).parent / "policies"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Caps are inclusive: a value equal to its cap passes. Sizes are decimal bytes, times are seconds."""

    name: str
    summary: str
    artifact_bytes: int  # code and compressed weights of the largest seed
    train_seconds: float
    evaluate_seconds: float  # all evaluation stages together
    kill_after_seconds: float  # beyond a limit: the worker ends the stage
    seeds: int  # that a claim needs at least
    gpu: str | None = None  # model that the race asks for; None: any hardware, a CPU too
    gpus: int = 0

    def __post_init__(self) -> None:
        for name in ("artifact_bytes", "train_seconds", "evaluate_seconds", "kill_after_seconds", "seeds"):
            require(getattr(self, name) > 0, f"policy {self.name}: {name}={getattr(self, name)} must be positive")

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


def policy_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_policy(name: str) -> Policy:
    """The policy of that name, or of that TOML file. Raises ConfigError with the nearest name."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"there is no policy {name!r}; {nearest(name, policy_names())}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    data.setdefault("name", path.stem)
    policy: Policy = from_dict(Policy, data)
    return policy
