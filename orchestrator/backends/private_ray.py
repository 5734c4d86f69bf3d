"""A Ray that this process starts for itself and ends with itself.

Its session folder has a place of its own, named by the process it belongs to, and goes with it; what a killed
process left behind is cleared by the next one. Ray's own processes end with the one that started them.
"""

import contextlib
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
import typing
from collections.abc import Iterator
from pathlib import Path

from orchestrator.backends.base import Unavailable
from orchestrator.checkout import python_path
from orchestrator.proc import start_ticks

OBJECT_STORE_BYTES = 80 * 1024 * 1024  # about the least that Ray takes

# Read by Ray when it is imported and by the processes that it starts.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else ranks run at nice 15
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # keep CUDA_VISIBLE_DEVICES as it is; also silences a warning
    "RAY_DEDUP_LOGS": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread that asks Ray once more after its end would start another one
}


@contextlib.contextmanager
def interrupt_deferred() -> Iterator[None]:
    """A Ctrl-C within the `with` takes effect behind it: where it cuts Ray's start or end, the process can crash."""
    if threading.current_thread() is not threading.main_thread():  # which alone hears of it
        yield
        return
    noted: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if noted:
            signal.raise_signal(signal.SIGINT)


class PrivateRay:
    """Started at once; `ray` is the module. Raises Unavailable."""

    def __init__(self, cpus: int, object_store_bytes: int = OBJECT_STORE_BYTES) -> None:
        with interrupt_deferred():
            self.ray = import_ray()
        if self.ray.is_initialized():
            raise Unavailable("this process has started Ray already, for something else")
        clear_homes()
        self.home = Path(tempfile.gettempdir()) / home_name(os.getpid())
        try:
            with interrupt_deferred():
                self._start(cpus, object_store_bytes)
        except KeyboardInterrupt:
            self.close()
            raise

    def _start(self, cpus: int, object_store_bytes: int) -> None:
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = python_path(before)
        try:
            self.ray.init(
                address="local",  # never a cluster that RAY_ADDRESS names
                num_cpus=cpus,
                num_gpus=0,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=max(object_store_bytes, OBJECT_STORE_BYTES),
                _temp_dir=str(self.home),
            )
        except Exception as error:  # Ray raises what its parts raise
            raise Unavailable(f"local Ray did not start: {error}; --on process needs no Ray") from error
        finally:
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
        tighten(Path.home() / ".ray" / "auth_token")

    def close(self) -> None:
        with interrupt_deferred():
            self.ray.shutdown()
            shutil.rmtree(self.home, ignore_errors=True)


def import_ray() -> typing.Any:
    os.environ.update(RAY_ENVIRONMENT)
    import ray

    return ray


def home_name(pid: int) -> str:
    """Short: the paths of Ray's sockets must stay under 108 bytes."""
    return f"golf-ray-{pid}-{start_ticks(pid)}"


def tighten(secret: Path) -> None:
    """Ray writes its token for everybody to read."""
    with contextlib.suppress(OSError):
        if secret.stat().st_mode & 0o077:
            secret.chmod(0o600)


def clear_homes() -> None:
    """Remove the session folders of processes of ours that are gone."""
    for folder in Path(tempfile.gettempdir()).glob("golf-ray-*-*"):
        match = re.fullmatch(r"golf-ray-(\d+)-(\d+)", folder.name)
        if match and start_ticks(int(match[1])) != int(match[2]) and folder.owner() == Path("/proc/self").owner():
            shutil.rmtree(folder, ignore_errors=True)
