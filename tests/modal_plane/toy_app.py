"""The app that the plane's own tests deploy: functions that do in a container what a test hands them as source."""

from typing import Any

import modal

app = modal.App("toy")
attempts = modal.Volume.from_name("attempts", create_if_missing=True, version=2)
data = modal.Volume.from_name("data", create_if_missing=True, version=2)
image = (
    modal.Image.debian_slim(python_version="3.11")
    .uv_pip_install("numpy==2.0.0")
    .env({"COLOUR": "light blue"})
    .add_local_python_source("toy_mate", "orchestrator")
)
options: dict[str, Any] = {
    "image": image,
    "volumes": {"/runs/attempts": attempts, "/data": data.with_mount_options(read_only=True)},
    "secrets": [modal.Secret.from_name("hub"), modal.Secret.from_dict({"INLINE": "given"})],
    "retries": 0,
    "single_use_containers": True,
    "scaledown_window": 2,
}


def obey(source: str) -> object:
    names: dict[str, object] = {"attempts": attempts, "modal": modal}
    exec(source, names)
    return names.get("result")


@app.function(**options, gpu="H100!:8", max_containers=2, timeout=60)
def run(source: str) -> object:
    return obey(source)


@app.function(**options, max_containers=1, timeout=2)
def brief(source: str) -> object:
    return obey(source)


@app.local_entrypoint()
def leave(source: str) -> None:
    """Makes two calls and does not wait for them."""
    for _ in range(2):
        print("spawned", run.spawn(source).object_id)


@app.local_entrypoint()
def main(seeds: str = "1") -> None:
    sources = [f"import toy_mate; print('seed', {seed}); result = toy_mate.double({seed})" for seed in seeds.split(",")]
    print("doubled:", *run.map(sources))
