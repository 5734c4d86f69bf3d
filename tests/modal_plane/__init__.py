"""A control plane of Modal on loopback: the real `modal` package and command line run against it, without an account.

It speaks the protocol of the installed wheel (gRPC from `modal_proto`, HTTP for blobs and blocks), and starts a real
process, the wheel's own container entry point, for every container:

    with Plane(folder, gpus={"H100!": "NVIDIA H100 80GB HBM3"}) as plane:
        subprocess.run([sys.executable, "-m", "modal", "run", "app.py", "--seeds", "1,2"], env=plane.environment())
        plane.calls(), plane.containers(), plane.billed(), plane.log(call_id)       # what happened
        plane.preempt(call_id); plane.faults.lose_reply("FunctionMap")              # what shall go wrong
        assert plane.unknown == [] and plane.errors == []

By hand: `python -m tests.modal_plane --folder DIR` prints the environment to export and serves until Ctrl-C. In tests:
the fixture `modal_plane` is a plane of the test's own, `modal_containers` is asked for by those that make one
themselves, and a file with either says `pytestmark = pytest.mark.xdist_group("modal")`.

**A container** has a mount and a process namespace of its own, so it needs root or user namespaces. It sees the
system's folders and the Python that runs the plane; its `/root` holds the files of its mounts and nothing else, its
volumes lie at their paths, the caller's folders do not exist for it. The network is the host's. When it ends, what it
started ends with it, in whatever session that is; when the plane is killed, so are all containers. Where neither is to
be had `capability.missing` says what stands in the way, and tests are skipped with it.

**GPUs** are counted, not there. `gpus=` lays a stand-in over the installed `pynvml.py` of a container, which names as
many healthy GPUs as the function declares. `paths=` puts folders of a test first on the PYTHONPATH of containers,
`variables=` sets variables in them. `billed()` is each container's life, from its start to its end, times its GPUs.

**What it holds to**, as Modal documents it:
- `max_containers`, `single_use_containers`, `timeout` (FunctionTimeoutError; the container is killed), `retries`.
  `with_options` makes a variant of a function, with containers of its own.
- Preemption: SIGINT, a grace period, SIGKILL; then the same input starts again in a new container. So it does after
  `modal container stop`, and when the machine below a container is lost.
- A deploy makes a new version: containers of the old one end what they are at and are given no more.
- A cancelled input raises InputCancellation in the code; its caller gets RemoteError. `get(timeout=0)` of what still
  runs raises the builtin TimeoutError. A container killed from outside fails its input.
- Calls belong to an app. An app of `modal run` ends with its client, or some seconds after its client's last
  heartbeat; with `--detach` the call that was made last lives on, and only that; a deployed app's calls all do.
- Volumes (version 2): a container's writes are its own until `commit()` or its clean end; others see them after
  `reload()`, which is refused while files of the volume are open. Of two that write one file the last to commit wins.
- `Dict.put(..., skip_if_exists=True)` is atomic. Entries and outputs expire when a test says so.
- Secrets and the image's ENV lines become variables. Logs come line by line, with the call they belong to.

**Harder than Modal on purpose**: there are no background commits, unless `background_commits=` gives their seconds; a
repeated request is executed again, unless `idempotent=True` (whether Modal's servers use the client's idempotency key
is not documented); a crashed container fails its input at once; a container counts against max_containers until its
process is gone, one of an earlier version too.

**What the client does by itself** (1.6.4): it repeats a unary request that was lost three times, within 0.7 s, so a
server that cannot be reached for longer raises `modal.exception.ConnectionError`, in the iteration over logs the
builtin ConnectionRefusedError; the call goes on, and may be asked for again. A `put(skip_if_exists=True)` whose reply
was lost is repeated too, and may then say False to its winner; a `spawn` may make two calls. Of a lost log stream it
asks again ten times; `modal run` that Ctrl-C ends exits with 0, `modal run --detach` waits up to ten seconds for lines
(MODAL_LOGS_TIMEOUT) after its entry point has returned.

**Not simulated**: building images (the recipe is recorded, a build succeeds at once or fails by `break_builds`),
packages other than the plane's own, GPUs and their speed, scheduling delay, regions, CPU and memory limits, prices;
classes, servers, web functions, generators, sandboxes, queues, schedules, snapshots, volumes of version 1, more than
one environment, `get_call_graph`, roll-backs. An RPC that is not served is refused with its name and kept in
`plane.unknown`.
"""

from tests.modal_plane.plane import Plane

__all__ = ["Plane"]
