"""Whether a local Ray works on this machine: it is started, one task runs, it is ended."""

import platform
import time

from orchestrator import errors
from orchestrator.backends.base import Unavailable
from orchestrator.backends.private_ray import PrivateRay
from orchestrator.doctor.finding import OK, WRONG, Finding

TASK_SECONDS = 60.0


def trial() -> Finding:
    begin = time.monotonic()
    mend = "--on process needs no Ray; Ray's own logs are in /tmp/golf-ray-*/session_latest/logs while it starts"
    try:
        own = PrivateRay(1)
    except Unavailable as error:
        return Finding("ray", WRONG, str(error), mend, errors.BACKEND)
    try:
        started = time.monotonic() - begin
        task = own.ray.remote(num_cpus=1)(platform.python_version).remote()
        if not own.ray.wait([task], timeout=TASK_SECONDS)[0]:
            found = f"local Ray started, and ran no task within {TASK_SECONDS:g} s"
            return Finding("ray", WRONG, found, mend, errors.BACKEND)
        own.ray.get(task)
        version = own.ray.__version__
    except own.ray.exceptions.RayError as error:
        found = f"local Ray started, and its task failed: {' '.join(str(error).split())[:200]}"
        return Finding("ray", WRONG, found, mend, errors.BACKEND)
    finally:
        own.close()
    return Finding("ray", OK, f"local Ray {version} starts ({started:.1f} s) and runs a task")
