"""Whether a submission will fit: an estimate of weights and code against the policy's cap, before anything runs."""

import typing
from dataclasses import asdict, dataclass

from golf_core.config import Config
from golf_core.inventory import take_inventory

DOUBT = 0.10  # of the cap: trained weights have compressed to within this of the estimate


@dataclass(frozen=True, kw_only=True)
class Size:
    """Decimal bytes. `fits` and `cannot fit` are said only where the estimate is clear of the cap by `DOUBT`."""

    parameters: int
    model_bytes: int
    code_bytes: int
    cap: int
    target_bytes: int | None = None  # to which the recipe prunes

    @property
    def total(self) -> int:
        return self.model_bytes + self.code_bytes

    @property
    def verdict(self) -> str:
        """
        >>> [Size(parameters=1, model_bytes=n, code_bytes=0, cap=1000).verdict for n in (899, 900, 1100, 1101)]
        ['fits', 'may not fit', 'may not fit', 'cannot fit']
        """
        if self.total > (1 + DOUBT) * self.cap:
            return "cannot fit"
        return "may not fit" if self.total >= (1 - DOUBT) * self.cap else "fits"

    def describe(self) -> str:
        pruned = f"; the recipe prunes to {self.target_bytes:,}" if self.target_bytes else ""
        return (
            f"about {self.total:,} bytes (weights {self.model_bytes:,} + code {self.code_bytes:,}) of {self.cap:,}: "
            f"{self.verdict}{pruned}"
        )

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self) | {"total_bytes": self.total, "verdict": self.verdict}


def estimate(config: Config, code_bytes: int, cap: int) -> Size:
    inventory = take_inventory(config)
    return Size(
        parameters=inventory.parameters,
        model_bytes=inventory.model_bytes,
        code_bytes=code_bytes,
        cap=cap,
        target_bytes=config.artifact.target_bytes,
    )
