"""What every node of a cluster has, as a driver on the head found it: JSON both ways. Nothing of it is a verdict.

Ray's own view of a node (labels, what was declared to it) is there even where the node did not answer; `error` says
then why, and the facts below it are absent.
"""

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from orchestrator.errors import BackendFailure
from orchestrator.spec import Data

SCHEMA_VERSION = 1

# What is asked of each node by name: what a bundle imports, what it may, and Ray itself.
PACKAGES = ("ray", "torch", "numpy", "sentencepiece", "zstandard", "brotli", "nvidia-ml-py", "fsspec")
KERNELS = ("flash_attn_3", "flash_attn")  # distributions of optional attention kernels, the better first


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    node_id: str  # Ray's, hexadecimal
    hostname: str
    address: str  # of the raylet, as Ray knows it
    is_head: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()  # of its GPUs, as its labels and resources tell them
    declared_gpus: int = 0
    declared_cpus: float = 0.0
    free_gpus: int = 0  # at that moment
    error: str = ""
    python: str = ""
    packages: dict[str, str | None] = field(default_factory=dict)  # PACKAGES and KERNELS; None: not installed
    gpus: tuple[dict[str, typing.Any], ...] = ()  # gpus.Gpu.to_dict() of every real one
    cores: int = 0
    memory_bytes: int = 0
    node_dir: str = ""  # on that node, ~ resolved
    disk_free_bytes: int | None = None  # where node_dir is, or would be
    disk_error: str = ""  # why nothing could be written there
    clock_offset: float | None = None  # seconds of its wall clock before (+) or behind (-) the head's
    clock_error: float = 0.0  # half of the round trip
    data: Data | None = None  # shards and tokenizer there, where they were asked for
    data_error: str = ""  # why they are of no use

    @property
    def answered(self) -> bool:
        return not self.error

    @property
    def simulated(self) -> bool:
        """GPUs are declared to Ray and none is there."""
        return self.answered and self.declared_gpus > 0 and not self.gpus

    def short(self) -> str:
        return f"{self.hostname} ({self.node_id[:8]})"


@dataclass(frozen=True, kw_only=True)
class Survey:
    ray: str  # of the head
    python: str
    nodes: tuple[NodeFacts, ...]
    lost: tuple[str, ...] = ()  # nodes that Ray remembers and that are gone, where no live one has their address
    seconds: float = 0.0

    def to_dict(self) -> dict[str, typing.Any]:
        return {"schema_version": SCHEMA_VERSION} | asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, typing.Any]) -> "Survey":
        """Raises BackendFailure for what is no survey of this version."""
        if told.get("schema_version") != SCHEMA_VERSION:
            raise BackendFailure(
                f"the head told a survey of version {told.get('schema_version')!r}, not {SCHEMA_VERSION}"
            )
        try:
            nodes = tuple(_node(one) for one in told["nodes"])
            rest = {name: told[name] for name in _names(cls) - {"nodes", "lost"}}
            return cls(nodes=nodes, lost=tuple(map(str, told["lost"])), **rest)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BackendFailure(f"the head told something that is no survey: {error!r}") from None

    def takers(self) -> tuple[NodeFacts, ...]:
        """The nodes that attempts would run on: those with GPUs, or all where none has."""
        with_gpus = tuple(node for node in self.nodes if node.declared_gpus)
        return with_gpus or self.nodes


def _names(cls: type) -> set[str]:
    return {one.name for one in fields(cls)}


def _node(told: Mapping[str, typing.Any]) -> NodeFacts:
    known = {name: told[name] for name in _names(NodeFacts)}
    data = known["data"]
    known["models"] = tuple(known["models"])
    known["gpus"] = tuple(dict(one) for one in known["gpus"])
    known["data"] = None if data is None else Data(**data)
    return NodeFacts(**known)
