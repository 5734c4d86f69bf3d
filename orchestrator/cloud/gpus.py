"""GPUs in Modal's words and in their driver's: `--gpus H100:8` is asked for as `H100!:8`, and must come as the driver's
"NVIDIA H100 80GB HBM3".

Without the `!` Modal may serve a better GPU than was asked for, at the same price: a record's timing would be another
machine's. Its client sends any text; what does not exist would wait for ever, so that it is refused here.
Source: Modal's guide to GPUs, as known in mid-2026.
"""

from dataclasses import dataclass

from golf_core.fields import nearest
from orchestrator.errors import UsageError
from orchestrator.hardware.request import ANY, GpuRequest

DRIVER_NAMES = {
    "T4": "Tesla T4",
    "L4": "NVIDIA L4",
    "A10": "NVIDIA A10G",
    "A100-40GB": "NVIDIA A100-SXM4-40GB",
    "A100-80GB": "NVIDIA A100-SXM4-80GB",
    "L40S": "NVIDIA L40S",
    "RTX-PRO-6000": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "H100": "NVIDIA H100 80GB HBM3",
    "H200": "NVIDIA H200",
    "B200": "NVIDIA B200",
}
MOST = {"A10": 4}
MOST_OF_OTHERS = 8
UPGRADED = ("H100",)  # may come as something better where the exact model is not insisted on


@dataclass(frozen=True)
class CloudGpus:
    """So many GPUs of a model, all in one container. `kind` is Modal's name of it."""

    kind: str
    count: int

    @property
    def name(self) -> str:
        """As the driver tells it: part of a run's id."""
        return DRIVER_NAMES[self.kind]

    @property
    def asked(self) -> str:
        """What a function is declared with.

        >>> CloudGpus("H100", 8).asked, CloudGpus("L40S", 1).asked
        ('H100!:8', 'L40S:1')
        """
        return f"{self.kind}{'!' if self.kind in UPGRADED else ''}:{self.count}"


def cloud_gpus(request: GpuRequest, place: str) -> CloudGpus:
    """What Modal has of what was asked for. `place`: where it was asked, for the message.

    >>> cloud_gpus(GpuRequest("h100!", 8), "--gpus").asked
    'H100!:8'
    """
    if request.model is None:
        raise UsageError(f"{place}: {ANY} is no model; a run's id names one: H100:{request.count}, say")
    asked = request.model.removesuffix("!").casefold()
    found = [kind for kind, name in DRIVER_NAMES.items() if asked in (kind.casefold(), name.casefold())]
    if not found:
        several = [f"{kind}:{request.count}" for kind in DRIVER_NAMES if kind.casefold().startswith(f"{asked}-")]
        known = nearest(request.model.removesuffix("!").upper(), DRIVER_NAMES)
        known = f"did you mean {' or '.join(reversed(several))}?" if several else known
        raise UsageError(f"{place}: Modal has no GPU {request.model!r}; {known}")
    most = MOST.get(found[0], MOST_OF_OTHERS)
    if not 1 <= request.count <= most:
        raise UsageError(f"{place}: Modal gives 1 to {most} {found[0]} to a container, not {request.count}")
    return CloudGpus(found[0], request.count)


def of_driver_name(name: str, count: int) -> CloudGpus:
    """GPUs whose model is known as their driver tells it."""
    return CloudGpus(next(kind for kind, driver in DRIVER_NAMES.items() if driver == name), count)
