"""Which node an attempt goes to: a pure function of what the nodes have, what is asked, and what we run already.

All GPUs of a seed come from one node. A model is asked for by name and given strictly: a node tells its own by the
label `ray.io/accelerator-type` or `gpu-type`, or by the resource `accelerator_type:NAME`; one that tells none has none.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LABELS = ("ray.io/accelerator-type", "gpu-type")
RESOURCE = "accelerator_type:"


class Infeasible(Exception):
    """No node of the cluster can ever take it; the message says what there is."""


class AllRefused(Infeasible):
    """There are such nodes, but each was found wanting."""


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """A living node, as the cluster tells of it."""

    node_id: str
    host: str
    gpus: int = 0
    gpus_free: float = 0.0
    cpus: float = 0.0
    cpus_free: float = 0.0
    models: frozenset[str] = frozenset()
    head: bool = False

    def describe(self) -> str:
        """
        >>> NodeView(node_id="a", host="n1", gpus=8, models=frozenset({"H100"})).describe()
        'n1: 8x H100'
        """
        return f"{self.host}: {what(self.gpus, ' or '.join(sorted(self.models)) or None, self.cpus)}"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What one attempt needs of one node. With GPUs its processors are not counted: a GPU node has more than enough."""

    gpus: int = 0
    gpu: str | None = None  # model, short (H100) or as the driver names it
    cpus: float = 1.0

    def describe(self) -> str:
        return what(self.gpus, None if self.gpu is None else short_name(self.gpu), self.cpus)


@dataclass(frozen=True)
class Use:
    """What attempts of ours keep busy on a node."""

    gpus: int = 0
    cpus: float = 0.0

    def __add__(self, other: "Use") -> "Use":
        return Use(self.gpus + other.gpus, self.cpus + other.cpus)


@dataclass(frozen=True)
class Place:
    """`node` to begin on, or None and why it must wait."""

    node: NodeView | None
    reason: str = ""


def what(gpus: int, model: str | None, cpus: float) -> str:
    if gpus:
        return f"{gpus}x {model or 'GPU of unknown model'}"
    return f"no GPU, {cpus:g} CPU{'s' if cpus != 1 else ''}"


def short_name(model: str) -> str:
    """The model as Ray names it, of what the driver says.

    >>> [short_name(name) for name in ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "H200")]
    ['H100', 'A100', 'H200']
    """
    found = re.match(r"(?:NVIDIA|AMD|Tesla)\s+([A-Za-z0-9]+)", model)
    return found[1] if found else model


def models_of(labels: Mapping[str, str], resources: Mapping[str, float]) -> frozenset[str]:
    """What a node says of its GPUs' model.

    >>> sorted(models_of({"gpu-type": "H100"}, {"accelerator_type:H100": 1.0, "GPU": 8.0}))
    ['H100']
    """
    told = {labels[name] for name in LABELS if labels.get(name)}
    return frozenset(told | {name.removeprefix(RESOURCE) for name in resources if name.startswith(RESOURCE)})


def fits(ask: Ask, node: NodeView) -> bool:
    """Whether the node could take it if nothing else ran there."""
    if not ask.gpus:
        return node.cpus >= ask.cpus
    asked = None if ask.gpu is None else short_name(ask.gpu).casefold()
    return node.gpus >= ask.gpus and (asked is None or asked in {short_name(one).casefold() for one in node.models})


def place(
    ask: Ask,
    nodes: Sequence[NodeView],
    *,
    refused: Mapping[str, str] | None = None,
    mine: Mapping[str, Use] | None = None,
    faults: Mapping[str, int] | None = None,
    max_gpus: int | None = None,
    others: int = 0,
) -> Place:
    """The node for the next attempt. Raises Infeasible.

    `refused`: node id -> why nothing more is run there. `mine`: node id -> what we keep busy there, which the cluster
    may not have noticed yet. `faults`: node id -> attempts that ended there by a fault from outside. `others`: GPUs
    that count against `max_gpus`, too, though other controllers keep them busy.
    """
    refused, mine, faults = refused or {}, mine or {}, faults or {}
    if max_gpus is not None and ask.gpus > max_gpus:
        raise Infeasible(f"a seed needs {ask.gpus} GPUs, but max_gpus={max_gpus}; raise it or ask for fewer GPUs")
    able = [node for node in nodes if fits(ask, node)]
    if not able:
        raise Infeasible(f"no node has {ask.describe()}; {_there(nodes)}")
    good = [node for node in able if node.node_id not in refused]
    if not good:
        why = "; ".join(f"{node.host}: {refused[node.node_id]}" for node in able)
        raise AllRefused(f"every node with {ask.describe()} was refused ({why})")
    in_use = others + sum(use.gpus for use in mine.values())
    if max_gpus is not None and in_use + ask.gpus > max_gpus:
        return Place(None, f"max_gpus={max_gpus}: {in_use} are in use")
    free = [node for node in good if _has_room(ask, node, mine.get(node.node_id, Use()))]
    if not free:
        return Place(None, f"every node with {ask.describe()} is busy ({', '.join(node.host for node in good)})")

    def order(node: NodeView) -> tuple[int, bool, float, str]:
        room = node.gpus_free if ask.gpus else -node.cpus_free  # GPUs are packed, so that whole nodes stay free
        return faults.get(node.node_id, 0), node.head, room, node.host

    return Place(min(free, key=order))


def _has_room(ask: Ask, node: NodeView, mine: Use) -> bool:
    if not ask.gpus:
        return min(node.cpus_free, node.cpus - mine.cpus) >= ask.cpus
    return min(node.gpus_free, node.gpus - mine.gpus) >= ask.gpus


def _there(nodes: Sequence[NodeView]) -> str:
    """What the cluster has, alike nodes together."""
    if not nodes:
        return "the cluster has no node"
    told = [node.describe() + (" (head)" if node.head else "") for node in nodes]
    hint = ""
    if any(node.gpus and not node.models for node in nodes):
        hint = "; start a node with --labels gpu-type=MODEL so that it tells its model"
    return f"the cluster has {', '.join(told)}{hint}"
