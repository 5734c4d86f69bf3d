"""How long it takes from a command to the first training phase: plain torchrun, submit, and `ray job submit`.

    python benchmarks/submit_latency.py [--rounds 3]

The same bundle (the demo recipe), data, processes and machine, in one run. Each round starts every way once, waits
for the line `phase:begin train` in what the bundle prints, and ends it. `ray job submit` talks to a Ray head on the
loopback that this benchmark starts before, and whose start is not counted; `submit --on ray` starts its own Ray, and
that is counted. The claim: beyond plain torchrun, under 2 s with process and under 10 s with local Ray.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from golf_core.bundle import build_bundle  # noqa: E402
from golf_core.hardware import cpu_dtype  # noqa: E402
from golf_core.recipes import load_recipe  # noqa: E402

LINE = b"phase:begin train"
PATIENCE = 120.0
PROCESSES = 2 if len(os.sched_getaffinity(0)) > 1 else 1
CLAIMS = {"submit --on process": 2.0, "submit --on ray": 10.0}


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        said = subprocess.run(
            [sys.executable, "-m", "golf_core.data.embedded"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        corpus = json.loads(said.stdout.splitlines()[-1])
        self.bundle = folder / "train_gpt.py"
        self.bundle.write_text(build_bundle(load_recipe("demo").config), encoding="utf-8")
        self.inputs = {"DATA_PATH": corpus["data_path"], "TOKENIZER_PATH": corpus["tokenizer_path"], "SEED": "1"}
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("GOLF_", "RAY_"))}
        self.env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        self.token = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }  # of the head, and of its clients
        self.number = 0

    def fresh(self) -> Path:
        self.number += 1
        (made := self.folder / str(self.number)).mkdir()
        return made

    def torchrun(self, out: Path) -> list[str]:
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={PROCESSES}"]
        return [*launch, str(self.bundle), "train", "--out", str(out), "--dtype", cpu_dtype()]

    def plain(self) -> float:
        out = self.fresh()
        return self.timed(self.torchrun(out), self.env | self.inputs, lambda: out / "said.txt", out / "said.txt")

    def submit(self, backend: str) -> float:
        runs = self.fresh() / "runs"
        command = [sys.executable, "-m", "orchestrator", "submit", "--on", backend, "--seeds", "1", "--runs-dir"]
        command += [str(runs), "-y", "-q"]
        return self.timed(command, self.env, lambda: next(iter(runs.glob("attempts/*-a1/log.txt")), None))

    def ray_job(self, address: str) -> float:
        out = self.fresh()
        words = " ".join(self.torchrun(out))
        variables = json.dumps({"env_vars": self.inputs | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}})
        command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", address]
        command += ["--runtime-env-json", variables, "--", "bash", "-c", f"exec {words} > {out}/said.txt 2>&1"]
        try:
            return self.timed(command, self.env | self.token, lambda: out / "said.txt")
        finally:
            self.stop_jobs(address)

    def stop_jobs(self, address: str) -> None:
        script = (
            "import sys; from ray.job_submission import JobSubmissionClient as C; c = C(sys.argv[1]); "
            "[c.stop_job(j.submission_id) for j in c.list_jobs() if j.status == 'RUNNING']"
        )
        subprocess.run([sys.executable, "-c", script, address], env=self.env | self.token, capture_output=True)

    def timed(
        self, command: list[str], env: dict[str, str], log: Callable[[], Path | None], stdout: Path | None = None
    ) -> float:
        """Seconds from the start of the command to the line in the log; then the command is ended."""
        with (stdout or self.folder / "output.txt").open("wb") as sink:
            began = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=self.folder, env=env, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            while time.perf_counter() - began < PATIENCE:
                path = log()
                if path is not None and path.exists() and LINE in path.read_bytes():
                    seconds = time.perf_counter() - began
                    print(f"{seconds:.2f} s: {' '.join(command)[-60:]}", file=sys.stderr, flush=True)
                    return seconds
                if process.poll() not in (None, 0):
                    raise SystemExit(f"{' '.join(command)} ended:\n{Path(sink.name).read_text()}")
                time.sleep(0.005)
            raise SystemExit(f"{' '.join(command)}: no training phase in {PATIENCE:g} s")
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGINT, as Ctrl-C does, then what is needed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(20)
            return
        except subprocess.TimeoutExpired:
            continue


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


@contextlib.contextmanager
def ray_head(bench: Bench) -> Iterator[tuple[str, float]]:
    """A Ray head with its job server on the loopback, ours alone: address, and the seconds it took to answer."""
    gcs, dashboard, client, agent = free_ports(4)
    home = Path(tempfile.mkdtemp(prefix="golf-head-"))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
    command += [f"--port={gcs}", "--include-dashboard=true", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--temp-dir={home}"]
    command += [f"--dashboard-agent-listen-port={agent}", "--object-store-memory=80000000", "--disable-usage-stats"]
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=bench.env | bench.token,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", dashboard), 1).close()
                break
            if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                raise SystemExit("the Ray head did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{dashboard}", time.perf_counter() - began
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="golf-latency-") as folder:
        bench = Bench(Path(folder))
        ways: dict[str, Callable[[], float]] = {
            "torchrun": bench.plain,
            "submit --on process": lambda: bench.submit("process"),
            "submit --on ray": lambda: bench.submit("ray"),
        }
        bench.plain()  # what the first start reads from disk is nobody's latency
        seconds: dict[str, list[float]] = {name: [way() for _ in range(rounds)] for name, way in ways.items()}
        with ray_head(bench) as (address, head):
            seconds["ray job submit"] = [bench.ray_job(address) for _ in range(rounds)]
    report(seconds, head)
    beyond = {name: middle(seconds, name) - middle(seconds, "torchrun") for name in CLAIMS}
    return int(any(beyond[name] >= limit for name, limit in CLAIMS.items()))


def middle(seconds: dict[str, list[float]], name: str) -> float:
    return statistics.median(seconds[name])


def report(seconds: dict[str, list[float]], head: float) -> None:
    base = middle(seconds, "torchrun")
    print(f"seconds to the first training phase; {PROCESSES} processes, median of {len(seconds['torchrun'])}")
    print(f"{'way':<22}{'seconds':>9}{'beyond':>9}{'ratio':>8}{'claim':>9}   each")
    for name, each in seconds.items():
        claim = f"< {CLAIMS[name]:g} s" if name in CLAIMS else ""
        value = statistics.median(each)
        row = f"{name:<22}{value:>9.2f}{value - base:>+9.2f}{value / base:>8.2f}{claim:>9}"
        print(row + "   " + " ".join(f"{one:.2f}" for one in each))
    print(f"not counted for ray job submit: the start of the Ray head, {head:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
