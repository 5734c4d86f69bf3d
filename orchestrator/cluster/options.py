"""What a cluster is asked with, beyond the submission itself. Travels to the head as JSON."""

import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Folders are paths on the cluster; ~ is of the user there. None of it is part of any id."""

    state_dir: str  # on the head: ledger, mirrored and fetched attempts
    node_dir: str  # on each node: what runs there
    storage: str | None = None  # fsspec URI that sealed stages are copied to
    max_gpus: int | None = None  # at a time, over all that the state folder has running

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, typing.Any]) -> "ClusterOptions":
        return cls(**told)
