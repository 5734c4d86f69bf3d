"""Policies: the gates of a race as data. A TOML file beside this module, or one that a user names by path."""

import functools
import tomllib
import typing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from golf_core.config_io import from_dict
from golf_core.fields import ConfigError, nearest, require
from golf_core.frontier import BEST, toml_table, toml_text

FOLDER = Path(__file__).parent / "policies"
TABLES = ("claim", "hardware")  # of a policy's file that it may do without
AUDITS = ("recount", "replay", "probe")  # checks of sealed attempts that a policy may ask for
WRITTEN, PRACTISED = "record-2026-03", "frontier-2026-04"  # the race's two rules for a claim, by name in every output


@dataclass(frozen=True, kw_only=True)
class Claim:
    """When scores are better than a row of the frontier: a one-sided Welch test with p below `alpha`."""

    alpha: float
    frontier: str  # date of a shipped frontier, or a TOML file: in a policy's file, from its folder
    margin_nats: float = 0.0  # nats per token by which the mean must be better; in BPB it depends on the tokenizer
    against: str = BEST  # of the frontier: best, or a pull request

    def __post_init__(self) -> None:
        require(0 < self.alpha < 0.5, f"claim.alpha={self.alpha} must lie between 0 and 0.5")
        require(0 <= self.margin_nats < 1, f"claim.margin_nats={self.margin_nats} must be from 0 to below 1")

    def describe(self) -> str:
        """
        >>> load_policy("record-2026-03").claim.describe()
        'p < 0.01 for a mean better by more than 0.005 nats per token'
        """
        beyond = f"better by more than {self.margin_nats:g} nats per token" if self.margin_nats else "better at all"
        return f"p < {self.alpha:g} for a mean {beyond}"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What the GPUs that a policy names must show before they are trained on; 0 leaves a threshold out. Every GPU must,
    while all of them work at the same time."""

    nvlinks: int = 0  # active NVLinks of a GPU, at least
    matmul_tflops: float = 0.0  # of a product of bf16 matrices, at least
    copy_gb_s: float = 0.0  # memory read and written, at least
    all_reduce_gb_s: float = 0.0  # bus bandwidth of a large sum over all GPUs, at least
    clock_mhz: int = 0  # of the multiprocessors during the products, at least
    idle_bytes: int = 0  # memory in use before anything of ours runs, at most
    step_factor: float = 0.0  # times the published step time that the recipe's first steps may take
    probe_seconds: float = 120.0  # that the speed probe may take, with its start

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            require(0 <= value < 1e15, f"hardware.{name}={value} must not be negative")
        require(self.probe_seconds > 0, f"hardware.probe_seconds={self.probe_seconds} must be positive")
        require(
            not 0 < self.step_factor < 1, f"hardware.step_factor={self.step_factor} must be at least 1, or 0 for none"
        )


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
    claim: Claim | None = None  # None: nothing can be claimed under it
    hardware: Hardware | None = None  # None: GPUs need only be those that were asked for, and sound
    audits: tuple[str, ...] = ()  # checks of a sealed attempt that must have been made: without one its gate is unknown

    def __post_init__(self) -> None:
        for name in ("artifact_bytes", "train_seconds", "evaluate_seconds", "kill_after_seconds", "seeds"):
            require(getattr(self, name) > 0, f"policy {self.name}: {name}={getattr(self, name)} must be positive")

    def to_dict(self) -> dict[str, typing.Any]:
        """Without a table or audits there is no key for it, as in what was registered before there was one."""
        told = asdict(self) | {"audits": list(self.audits) or None}
        return {key: value for key, value in told.items() if key not in (*TABLES, "audits") or value is not None}


def policy_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_policy(name: str) -> Policy:
    """The policy of that name, or of that TOML file. Raises ConfigError with the nearest name."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"there is no policy {name!r}; {nearest(name, policy_names())}")
    try:
        return _parsed_policy(toml_text(path), path)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from None


@functools.lru_cache(maxsize=32)  # a look over hundreds of submissions asks for the same few
def _parsed_policy(text: str, path: Path) -> Policy:
    data = toml_table(text)
    data.setdefault("name", path.stem)
    policy = policy_from(data)
    if policy.claim is None or not policy.claim.frontier.endswith(".toml"):
        return policy
    return replace(policy, claim=replace(policy.claim, frontier=str((path.parent / policy.claim.frontier).absolute())))


def policy_from(data: typing.Mapping[str, typing.Any]) -> Policy:
    """The policy of a file's table, or that `to_dict` told. Raises ConfigError."""
    tables = {key: data[key] for key in TABLES if data.get(key) is not None}
    plain = {key: value for key, value in data.items() if key not in (*TABLES, "audits")}
    policy: Policy = from_dict(Policy, plain)
    policy = replace(policy, audits=audits_from(data.get("audits", ())))
    if "claim" in tables:
        policy = replace(policy, claim=claim_from(tables["claim"]))
    return replace(policy, hardware=hardware_from(tables["hardware"])) if "hardware" in tables else policy


def audits_from(data: typing.Any) -> tuple[str, ...]:
    """The names in a policy's `audits`, from a file or from what was registered. Raises ConfigError."""
    names = tuple(data) if isinstance(data, (list, tuple)) else None
    if names is None or any(one not in AUDITS or names.count(one) > 1 for one in names):
        raise ConfigError(f"audits={data!r:.80} must be a list of some of {', '.join(AUDITS)}")
    return names


def claim_from(data: typing.Any) -> Claim:
    """The rule in a policy's [claim], from a file or from what was registered. Raises ConfigError."""
    if not isinstance(data, dict):
        raise ConfigError(f"claim={data!r:.80} must be a table: alpha, frontier, and if need be margin_nats, against")
    claim: Claim = from_dict(Claim, data, "claim.")
    return claim


def hardware_from(data: typing.Any) -> Hardware:
    """The thresholds in a policy's [hardware], from a file or from what was registered. Raises ConfigError."""
    if not isinstance(data, dict):
        known = ", ".join(Hardware.__dataclass_fields__)
        raise ConfigError(f"hardware={data!r:.80} must be a table of {known}")
    hardware: Hardware = from_dict(Hardware, data, "hardware.")
    return hardware
