"""What is asked for: target, run and submission, and the ids that follow from their content.

Backend, paths, budget and deadlines stay out of the ids: the same work keeps its name wherever it runs.
"""

import hashlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from golf_core.bundle_pack import readable_source
from golf_core.fields import ConfigError
from golf_core.policy import Policy, policy_from
from golf_core.rundir import content_id
from orchestrator.errors import UsageError
from orchestrator.hardware.reference import reference_of
from orchestrator.script import RECIPE, SCRIPT, Script

SCHEMA_VERSION = 1
MAX_SEED = 2**32 - 1  # the largest that numpy and torch both take
DEFAULT_SEEDS = "1337,42,2025"
ATTEMPT_ID_DIGITS, SUBMISSION_DIGITS = 16, 12
OWN_DTYPE = "own"  # of a target whose script is not told one


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a run executes on. Part of its id: other hardware or another dtype is another run."""

    device: str  # cpu or cuda
    gpu: str | None = None  # model
    gpus: int = 0
    processes: int = 1
    threads: int = 1  # a process, on a CPU
    dtype: str = "fp32"  # OWN_DTYPE: a script chooses
    launcher: str = "torchrun"  # or python: one process without torchrun

    def __post_init__(self) -> None:
        if self.launcher not in ("torchrun", "python"):
            raise UsageError(f"launcher={self.launcher!r} is not known; there are python, torchrun")
        if self.launcher == "python" and self.processes != 1:
            raise UsageError(f"launcher=python starts one process, not processes={self.processes}; use torchrun")
        if self.processes < 1 or self.threads < 1:
            raise UsageError(f"processes={self.processes} and threads={self.threads} must be at least 1")

    @property
    def simulated(self) -> bool:
        """Trained on the CPU of a node, for GPUs that are declared to Ray and not there."""
        return self.device == "cpu" and self.gpus > 0

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)

    def describe(self) -> str:
        each = f"{self.threads} thread{'s' if self.threads > 1 else ''} each"
        what = f"{self.gpus}x{self.gpu or 'GPU'}" if self.device == "cuda" else f"CPU, {each}"
        what += f", for {self.gpus}x{self.gpu or 'GPU'} that are not there" if self.simulated else ""
        dtype = "the script's own dtype" if self.dtype == OWN_DTYPE else self.dtype
        return f"{self.processes} process{'es' if self.processes > 1 else ''} on {what}, {dtype}, {self.launcher}"


def target_class(target: Target, policy: Policy) -> str:
    """cpu, simulated (GPUs declared to Ray that are not there), exploratory (any real ones), or record (those that the
    policy asks for)."""
    if target.device == "cpu":
        return "simulated" if target.gpus else "cpu"
    record = is_gpu(target.gpu, policy.gpu) and target.gpus == policy.gpus
    return "record" if record else "exploratory"


def is_gpu(name: str | None, asked: str | None) -> bool:
    """Whether the driver's `name` is the model asked for: the whole name, since variants differ in its end alone.

    >>> is_gpu("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"), is_gpu("NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3")
    (True, False)
    """
    return name is not None and name == asked


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from `1337,42,2025`, in that order.

    >>> parse_seeds("3, 1")
    (3, 1)
    """
    words = [word.strip() for word in text.split(",")]
    if not any(words):
        raise UsageError(f"seeds={text!r} is empty; write whole numbers with commas, such as {DEFAULT_SEEDS}")
    seeds: list[int] = []
    for word in words:
        if not (word.isascii() and word.removeprefix("-").isdecimal()):
            raise UsageError(
                f"seeds={text!r}: {word!r} is not a whole number; write them with commas, such as {DEFAULT_SEEDS}"
            )
        seed = int(word) if len(word) <= 20 else MAX_SEED + 1
        if word.startswith("-"):
            raise UsageError(f"seeds={text!r}: {word} is negative; a seed lies between 0 and {MAX_SEED}")
        if seed > MAX_SEED:
            raise UsageError(f"seeds={text!r}: {word} is too large; a seed lies between 0 and {MAX_SEED}")
        if seed in seeds:
            raise UsageError(f"seeds={text!r}: {seed} stands twice; each seed is one run, name it once")
        seeds.append(seed)
    return tuple(seeds)


SHOWN = ("repo", "revision", "variant", "documents")  # of where data is from, in the plan


def _short(value: typing.Any) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return text[:12] if len(text) == 40 and set(text) <= set("0123456789abcdef") else text


def _shards(number: int) -> str:
    return f"{number} shard{'s' if number != 1 else ''}"


@dataclass(frozen=True, kw_only=True)
class Data:
    """The shards and the tokenizer: where they lie, and what they are. The two hashes alone are part of ids."""

    path: str
    sha256: str
    tokenizer_path: str
    tokenizer_sha256: str
    name: str | None = None  # these two of the folder's manifest, with which it agrees; None: it has none
    source: dict[str, typing.Any] | None = None
    shards: dict[str, int] | None = None  # train, val
    train_tokens: int | None = None
    val_tokens: int | None = None
    pieces: int | None = None  # of the tokenizer; None: it is no SentencePiece model
    stamp: str | None = None  # of the files' sizes and times, for a look whether they are still the same

    def describe(self) -> str:
        """What it is, in a line.

        >>> Data(path="d", sha256="a" * 64, tokenizer_path="t", tokenizer_sha256="b" * 64, name="tiny",
        ...      source={"kind": "hub", "revision": "c" * 40}, train_tokens=1_000).describe()
        'tiny (hub, revision cccccccccccc), 1,000 train tokens, verified, sha256 aaaaaaaaaaaa'
        """
        source = self.source or {}
        origin = [str(source.get("kind", "")), *(f"{key} {_short(source[key])}" for key in SHOWN if key in source)]
        counts = {"train": self.train_tokens, "val": self.val_tokens}
        told = [f"{self.path if self.name is None else self.name}" + (f" ({', '.join(origin)})" if source else "")]
        for split, tokens in counts.items():
            if tokens is not None:
                number = (self.shards or {}).get(split)
                told.append(f"{tokens:,} {split} tokens" + ("" if number is None else f" in {_shards(number)}"))
        told += ["verified" if self.name is not None else "no manifest", f"sha256 {self.sha256[:12]}"]
        return ", ".join(told)

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds after which the worker ends a stage. See worker and deadlines."""

    train_s: float
    evaluate_s: float
    kill_after_s: float
    startup_s: float  # from the start of a stage to its first phase; also the most that an untimed phase may take
    silence_s: float  # without a line of output, on stdout or in metrics.jsonl
    dead_man_s: float | None = None  # all that an execution of an attempt may take; None: what the others add up to

    @property
    def attempt_s(self) -> float:
        """All that an execution of an attempt may take, whatever it does: what it can cost follows from it. Each stage
        with its own start, its limit, and what it is given beyond that."""
        if self.dead_man_s is not None:
            return self.dead_man_s
        return 2 * (self.startup_s + self.kill_after_s) + self.train_s + self.evaluate_s

    @property
    def whole_s(self) -> float:
        """Of a script, which tells no phases: everything together."""
        return self.startup_s + self.train_s + self.evaluate_s + self.kill_after_s

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Run:
    seed: int
    run_id: str


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A recipe with overrides, or a script, a list of seeds in order, a target. All that spec.json says."""

    recipe: str  # of a script its file's name
    overrides: tuple[str, ...]
    seeds: tuple[int, ...]
    target: Target
    policy: Policy
    config: dict[str, typing.Any]
    data: Data
    bundle: str  # the text of train_gpt.py
    script: Script | None = None  # where `bundle` is somebody's own program
    recipe_file: dict[str, typing.Any] | None = None  # a user's own: name, function, sha256; part of no id
    published: dict[str, typing.Any] | None = None  # of the recipe: value, status, source; part of no id
    grid: dict[str, typing.Any] | None = None  # of a grid's variant: name, base, position, of; part of no id
    base: dict[str, typing.Any] | None = None  # what the config started from: recipe, source, config; part of no id
    rehearsal: dict[str, typing.Any] | None = None  # of a submission that goes before another: of, validation_tokens

    @property
    def kind(self) -> str:
        return RECIPE if self.script is None else SCRIPT

    @property
    def readable(self) -> str | None:
        """The source of a packed bundle; None where the bundle is readable as it is."""
        source = readable_source(self.bundle)
        return None if source == self.bundle else source

    @property
    def diagnostic_only(self) -> bool:
        return self.config.get("diagnostic_only") is True

    @cached_property
    def bundle_sha256(self) -> str:
        return hashlib.sha256(self.bundle.encode()).hexdigest()

    @cached_property
    def code_bytes(self) -> int:
        return len(self.bundle.encode())

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        return tuple(Run(seed=seed, run_id=self.run_id(seed)) for seed in self.seeds)

    def run_id(self, seed: int) -> str:
        """Of any seed under this configuration, registered or not."""
        sha256 = self.bundle_sha256
        what = {"bundle_sha256": sha256} if self.script is None else self.script.content(sha256)
        return content_id(
            {
                **what,
                "seed": seed,
                "data_sha256": self.data.sha256,
                "tokenizer_sha256": self.data.tokenizer_sha256,
                "target": self.target.to_dict(),
            }
        )

    @property
    def hardware(self) -> dict[str, typing.Any] | None:
        """What the worker holds its GPUs against; None where there are none."""
        if self.target.device != "cuda":
            return None
        is_record = target_class(self.target, self.policy) == "record"
        is_ours = self.script is None and self.recipe_file is None
        thresholds = None if self.policy.hardware is None else asdict(self.policy.hardware)
        reference = reference_of(self.config, self.base, self.published, is_ours=is_ours, is_record=is_record)
        return {"thresholds": thresholds, "reference": reference}

    @cached_property
    def submission_id(self) -> str:
        return content_id([run.run_id for run in self.runs])

    def to_dict(self, registered_at: str) -> dict[str, typing.Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "submission_id": self.submission_id,
            "kind": self.kind,
            "recipe": self.recipe,
            "overrides": list(self.overrides),
            "recipe_file": self.recipe_file,
            "script": None if self.script is None else self.script.to_dict(),
            "seeds": list(self.seeds),
            "runs": [{"seed": run.seed, "run_id": run.run_id} for run in self.runs],
            "target": self.target.to_dict(),
            "target_class": target_class(self.target, self.policy),
            "policy": self.policy.to_dict(),
            "bundle_sha256": self.bundle_sha256,
            "code_bytes": self.code_bytes,
            "config": self.config,
            "data": self.data.to_dict(),
            "published": self.published,
            "grid": self.grid,
            "base": self.base,
            "rehearsal": self.rehearsal,
            "registered_at": registered_at,
        }

    @classmethod
    def from_dict(cls, spec: Mapping[str, typing.Any], bundle: str) -> "Submission":
        """The submission of a spec.json and its bundle. Raises UsageError where they do not give its ids."""
        try:
            made = cls(
                recipe=spec["recipe"],
                overrides=tuple(spec["overrides"]),
                seeds=tuple(spec["seeds"]),
                target=Target(**spec["target"]),
                policy=policy_from(spec["policy"]),
                config=spec["config"],
                data=Data(**spec["data"]),
                bundle=bundle,
                script=None if spec.get("script") is None else Script.from_dict(spec["script"]),
                **{name: spec.get(name) for name in ("recipe_file", "published", "grid", "base", "rehearsal")},
            )
        except (KeyError, TypeError, ConfigError) as error:
            raise UsageError(f"this is no registered submission: {error!r}") from None
        if made.submission_id != spec.get("submission_id"):
            raise UsageError(
                f"submission {str(spec.get('submission_id'))[:SUBMISSION_DIGITS]} and what is beside it give "
                f"{made.submission_id[:SUBMISSION_DIGITS]}: one of them was changed"
            )
        return made

    def run_json(self, run: Run, number: int, limits: Limits) -> dict[str, typing.Any]:
        """What run.json of an attempt says."""
        return {
            "schema_version": SCHEMA_VERSION,
            "run_id": run.run_id,
            "attempt_id": attempt_id(run.run_id, number),
            "attempt": number,
            "submission_id": self.submission_id,
            "seed": run.seed,
            "kind": self.kind,
            "recipe": self.recipe,
            "script": None if self.script is None else self.script.to_dict(),
            "bundle_sha256": self.bundle_sha256,
            "code_bytes": self.code_bytes,
            "data": self.data.to_dict(),
            "target": self.target.to_dict(),
            "target_class": target_class(self.target, self.policy),
            "hardware": self.hardware,
            "limits": limits.to_dict(),
            "rehearsal": self.rehearsal,
            "policy_name": self.policy.name,
        }


def attempt_id(run_id: str, number: int) -> str:
    return f"{run_id[:ATTEMPT_ID_DIGITS]}-a{number}"


def unique_prefix(prefix: str, ids: Sequence[str]) -> str:
    """The one id that begins with `prefix`, or a UsageError that lists what there is."""
    found = [one for one in ids if one.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    what = "matches several submissions" if found else "is no submission here"
    known = ", ".join(one[:SUBMISSION_DIGITS] for one in (found or ids)) or "none yet"
    raise UsageError(f"{prefix!r} {what}; there are {known}")
