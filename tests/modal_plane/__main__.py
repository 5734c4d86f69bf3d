"""A plane for a person: prints the environment to export, and serves until Ctrl-C."""

import argparse
import shlex
import time
from pathlib import Path

from tests.modal_plane import Plane


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.modal_plane", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where volumes, blobs and containers' folders go")
    parser.add_argument("--gpu", action="append", default=[], metavar="TYPE=NAME", help="what NVML calls a GPU type")
    parser.add_argument("--gpu-capacity", type=int, help="GPUs that may be in use at a time")
    asked = parser.parse_args()
    gpus = dict(given.split("=", 1) for given in asked.gpu)
    with Plane(asked.folder, gpus=gpus, gpu_capacity=asked.gpu_capacity) as plane:
        for name, value in plane.environment().items():
            if name.startswith("MODAL_"):
                print(f"export {name}={shlex.quote(value)}", flush=True)
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            pass
        for call in plane.calls():
            print(f"{call.call_id} {call.app}.{call.function} {call.state} {' '.join(call.results)}")
        print(f"{plane.billed():.1f} GPU-seconds; refused RPCs: {plane.unknown or 'none'}")


if __name__ == "__main__":
    main()
