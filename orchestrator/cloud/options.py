"""What an app on Modal is deployed with. Other options are another app, so that both can run at once.

jobs/train.py reads them from one variable of the environment, in which submit puts them when it deploys; without it
they are those of a record.
"""

import json
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from orchestrator.cloud.gpus import of_driver_name
from orchestrator.errors import UsageError
from orchestrator.spec import Target

VARIABLE = "GOLF_MODAL_APP"
APP = "parameter-golf"
DATA_VOLUME, RUNS_VOLUME, CLAIMS = "parameter-golf-data", "parameter-golf-runs", "parameter-golf-claims"
DATA_MOUNT, RUNS_MOUNT = "/data", "/runs"
MAX_CONTAINERS = 3
MAX_TIMEOUT = 86_400  # seconds that Modal gives a call at most
BESIDE_SECONDS = 300  # of a call, beyond the attempt's own last deadline: its data is looked at, its files are kept
DEFAULT_ATTEMPT_SECONDS = 2520  # of an attempt under the record's limits
CORES_A_GPU, MEMORY_A_GPU_MIB = 2.0, 8192
CPU_CORES, CPU_MEMORY_MIB = 2.0, 4096  # where no GPU is asked for
GPU = re.compile(r"[A-Z0-9]+(-[A-Z0-9]+)*!?:[1-8]")  # as cloud/gpus.py writes it


@dataclass(frozen=True)
class AppOptions:
    """`gpu` is Modal's word for all GPUs of a container, None for none; `timeout_s` of a call, by Modal."""

    gpu: str | None = "H100!:8"
    timeout_s: int = DEFAULT_ATTEMPT_SECONDS + BESIDE_SECONDS
    packages: tuple[str, ...] = ()  # of the image, beyond those of the lock
    secret: str | None = None  # name of a modal.Secret

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= MAX_TIMEOUT:
            raise UsageError(
                f"a call on Modal may take {MAX_TIMEOUT:,} s at most, not {self.timeout_s:,}: an attempt's limits, and "
                f"{BESIDE_SECONDS} s for its files; --dead-man-seconds sets an earlier end"
            )

    @property
    def gpus(self) -> int:
        return 0 if self.gpu is None else int(self.gpu.rpartition(":")[2])

    @property
    def cores(self) -> float:
        return CORES_A_GPU * self.gpus or CPU_CORES

    @property
    def memory_mib(self) -> int:
        return MEMORY_A_GPU_MIB * self.gpus or CPU_MEMORY_MIB

    @property
    def name(self) -> str:
        """Of the app.

        >>> AppOptions().name, AppOptions(None).name, AppOptions("L40S:1", 7200).name
        ('parameter-golf', 'parameter-golf-cpu', 'parameter-golf-l40s-1-7200s')
        """
        default = AppOptions()
        parts = [APP]
        if self.gpu != default.gpu:
            parts.append("cpu" if self.gpu is None else self.gpu.replace("!", "").replace(":", "-").lower())
        if self.timeout_s != default.timeout_s:
            parts.append(f"{self.timeout_s}s")
        if self.packages or self.secret:
            parts.append(_digest([*self.packages, self.secret]))
        return "-".join(parts)

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "AppOptions":
        """Raises UsageError for what is none of ours."""
        if not (text := environ.get(VARIABLE)):
            return cls()
        try:
            told: dict[str, typing.Any] = json.loads(text)
            options = cls(**told | {"packages": tuple(told["packages"])})
            if isinstance(told["packages"], str) or not options._well_typed():
                raise ValueError(told)
            return options
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"{VARIABLE} holds no options of an app: {error!r}") from None

    def _well_typed(self) -> bool:
        texts = [*self.packages, *([] if self.secret is None else [self.secret])]
        gpu = self.gpu is None or (isinstance(self.gpu, str) and GPU.fullmatch(self.gpu) is not None)
        return gpu and type(self.timeout_s) is int and all(isinstance(one, str) and one for one in texts)


def timeout_of(attempt_s: float) -> int:
    """What a call is given for an attempt with that last deadline, and so the most that it is paid for."""
    return math.ceil(attempt_s) + BESIDE_SECONDS


def options_of(
    target: Target, attempt_s: float, packages: tuple[str, ...] = (), secret: str | None = None
) -> AppOptions:
    """Of the app that takes attempts on this target. Raises UsageError for a call that Modal gives no time for."""
    gpu = None if target.gpu is None else of_driver_name(target.gpu, target.gpus).asked
    return AppOptions(gpu=gpu, timeout_s=timeout_of(attempt_s), packages=packages, secret=secret)


def _digest(value: object) -> str:
    from golf_core.rundir import content_id

    return content_id(value)[:8]
