"""A Hugging Face hub on this machine: the routes that the real client calls, with faults to switch on.

    python -m tests.jobs.loopback_hub --folder DIR --port 0 [--demo SHARDS] [--fault KIND:PATH[:TIMES]] [--rate B]

serves DIR as the dataset repository willdepueoai/parameter-golf and prints its URL, for HF_ENDPOINT. `--demo 3` first
fills DIR with the embedded corpus as variant sp1024 in three train shards (`write_demo_hub`).

Large files redirect to another host name of the same server, as the real hub sends them to its CDN.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import threading
import time
import typing
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from golf_core.data.embedded import SHARD_NAMES, TOKENIZER_NAME, embedded_data
from golf_core.data.shard_writer import write_shard
from golf_core.data.shards import read_shard

REPO = "willdepueoai/parameter-golf"
LFS_SUFFIXES = (".bin", ".model", ".jsonl")
FOR_EVER = 1_000_000
FAULTS = ("page", "empty", "short", "wrong", "cut", "pause", "packed", "whole", "shifted")
PAGE = b"<!doctype html><html><body><h1>Sign in to the network</h1></body></html>"
BLOCK = 1 << 16


@dataclasses.dataclass
class Fault:
    """What happens to requests for a path: an HTTP status, or one of page, empty, short, wrong, cut,
    pause, packed (gzip unasked), whole (ranges are ignored), shifted (another range than asked for)."""

    kind: str
    times: int = FOR_EVER
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    authorized: bool
    host: str


@dataclasses.dataclass(frozen=True)
class Commit:
    folder: Path
    files: dict[str, dict[str, typing.Any]]  # as the hub lists them


class LoopbackHub:
    """`with LoopbackHub(folder) as hub: hub.url`; a folder with the files of the repository is one commit."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.commits: dict[str, Commit] = {}
        self.main = self.publish(folder)
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[Request] = []
        self.tokens: set[str] | None = None  # that may read; None: everybody may
        self.rate: float | None = None  # bytes a second of each connection; None: no limit
        self.lock, self.paused, self.resume = threading.Lock(), threading.Event(), threading.Event()
        self.server = HubServer(self, port)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> "LoopbackHub":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.resume.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, folder: Path) -> str:
        """A new commit, which is the newest from now on."""
        commit = Commit(folder, listed(folder))
        oids = {path: facts["oid"] for path, facts in commit.files.items()}
        self.main = hashlib.sha1(json.dumps(oids, sort_keys=True).encode()).hexdigest()
        self.commits[self.main] = commit
        return self.main

    def fail(self, path: str, kind: str, times: int = FOR_EVER, **headers: str) -> None:
        """From now on `times` requests for paths that end so meet this fault."""
        fault = Fault(kind, times, {name.replace("_", "-"): value for name, value in headers.items()})
        self.faults.setdefault(path, []).append(fault)

    def mend(self) -> None:
        self.faults.clear()

    def fault_for(self, path: str) -> Fault | None:
        with self.lock:
            for end, faults in self.faults.items():
                if path.endswith(end) and (ready := [fault for fault in faults if fault.times > 0]):
                    ready[0].times -= 1
                    return ready[0]
        return None

    def gets(self, path: str) -> list[Request]:
        """The requests for the bytes of a file, redirects left out."""
        return [
            one for one in self.requests if one.method == "GET" and one.path.startswith("/cdn/") and path in one.path
        ]


class HubServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: LoopbackHub, port: int) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", port), Handler)

    def handle_error(self, *_: object) -> None:
        """A client that was killed is no error of ours."""


def listed(folder: Path) -> dict[str, dict[str, typing.Any]]:
    """Every file of a repository as the hub lists it."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data, name = path.read_bytes(), path.relative_to(folder).as_posix()
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        found[name] = {"type": "file", "path": name, "size": len(data), "oid": blob}
        if name.endswith(LFS_SUFFIXES):
            found[name]["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    @property
    def hub(self) -> LoopbackHub:
        return self.server.hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        authorized = "authorization" in self.headers
        host = self.headers.get("Host", "")
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), authorized, host))
        fault = None if path.startswith("/datasets/") and path.endswith(LFS_SUFFIXES) else self.hub.fault_for(path)
        if fault is not None and fault.kind.isdecimal():
            return self.send(int(fault.kind), b"{}", {"Content-Type": "application/json", **fault.headers})
        if fault is not None and fault.kind == "page" and not path.startswith("/cdn/"):
            return self.send(200, PAGE, {"Content-Type": "text/html"})
        if path.startswith("/cdn/"):
            _, _, commit, name = path.split("/", 3)
            return self.file(self.hub.commits[commit].folder, name, fault)
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if self.hub.tokens is not None and token not in self.hub.tokens:
            code, word = (403, "GatedRepo") if token else (401, "GatedRepo")
            return self.send(code, b"{}", {"X-Error-Code": word, "X-Error-Message": f"no {token}"})
        return self.route(path, body, fault)

    def route(self, path: str, body: bytes, fault: Fault | None) -> None:
        for start in (f"/api/datasets/{REPO}", f"/datasets/{REPO}/resolve"):
            if path == start or path.startswith(f"{start}/"):
                break
        else:
            return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        verb, _, rest = path.removeprefix(start).lstrip("/").partition("/")
        if start.endswith("resolve"):
            verb, rest = "resolve", f"{verb}/{rest}"
        revision, _, name = rest.partition("/")
        commit = self.hub.main if revision in ("", "main") else revision
        if commit not in self.hub.commits:
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        found = self.hub.commits[commit].files
        if verb == "resolve":
            return self.resolve(commit, name, fault)
        if verb == "paths-info":
            paths = urllib.parse.parse_qs(body.decode())["paths"]
            return self.json([found[path] for path in paths if path in found])
        if verb == "tree":
            return self.json([one for path, one in found.items() if path.startswith(name)])
        siblings = [{"rfilename": path} for path in found]
        return self.json({"id": REPO, "sha": commit, "siblings": siblings, "tags": [], "private": False})

    def resolve(self, commit: str, name: str, fault: Fault | None) -> None:
        if (facts := self.hub.commits[commit].files.get(name)) is None:
            return self.send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        etag = facts["lfs"]["oid"] if "lfs" in facts else facts["oid"]
        headers = {"X-Repo-Commit": commit, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(facts["size"])}
        if "lfs" in facts:  # another origin, which must not see the token
            location = f"http://localhost:{self.hub.port}/cdn/{commit}/{urllib.parse.quote(name)}"
            return self.send(302, b"", {**headers, "Location": location, "ETag": f'"{etag}"'})
        return self.file(self.hub.commits[commit].folder, name, fault, {**headers, "ETag": f'"{etag}"'})

    def file(
        self, folder: Path, name: str, fault: Fault | None, headers: typing.Mapping[str, str] | None = None
    ) -> None:
        data, kind = (folder / name).read_bytes(), None if fault is None else fault.kind
        asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        start = int(asked) if asked and kind != "whole" else 0
        told = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **(headers or {})}
        if kind == "page":
            return self.send(200, PAGE, {"Content-Type": "text/html"})
        if kind == "packed":
            return self.send(200, gzip.compress(data), {**told, "Content-Encoding": "gzip"})
        if kind == "empty":
            return self.send(200, b"", told)
        if kind == "short":
            data = data[: len(data) // 2]
        if kind == "wrong":
            data = data[:-1] + bytes([data[-1] ^ 1])
        shown = start + 1 if kind == "shifted" else start
        if asked and kind != "whole":
            told["Content-Range"] = f"bytes {shown}-{len(data) - 1}/{len(data)}"
        self.send(206 if asked and kind != "whole" else 200, data[start:], told, kind)

    def json(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, code: int, body: bytes, headers: typing.Mapping[str, str], kind: str | None = None) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            half = len(body) // 2
            self.wfile.write(body[:half])
            if kind == "pause":
                self.hub.paused.set()
                self.hub.resume.wait()
            if kind in ("cut", "pause"):
                self.close_connection = True
                return
            for start in range(half, len(body), BLOCK):
                self.wfile.write(body[start : start + BLOCK])
                if self.hub.rate:
                    time.sleep(BLOCK / self.hub.rate)
        except OSError:  # the client left
            self.close_connection = True


def write_demo_hub(folder: Path, train_shards: int = 3) -> Path:
    """A repository with the embedded corpus as variant sp1024, and a variant byte260 without a SentencePiece model."""
    source, _ = embedded_data()
    tokens = {split: np.asarray(read_shard(source / name)) for split, name in SHARD_NAMES.items()}
    write_variant(folder, "fineweb10B_sp1024", tokens["train"], tokens["val"], train_shards)
    bytes_of = {split: (row % 256 + 4).astype(np.uint16)[:5000] for split, row in tokens.items()}
    write_variant(folder, "fineweb10B_byte260", bytes_of["train"], bytes_of["val"], 2)
    root = folder / "datasets"
    (root / "tokenizers").mkdir(exist_ok=True)
    (root / "tokenizers" / "fineweb_1024_bpe.model").write_bytes((source / TOKENIZER_NAME).read_bytes())
    (root / "tokenizers" / "fineweb_1024_bpe.vocab").write_text("<unk>\t0\n", encoding="utf-8")
    (root / "tokenizers" / "fineweb_pure_byte_260.json").write_text('{"kind": "byte"}', encoding="utf-8")
    (root / "docs_selected.jsonl").write_text('{"text": "one"}\n', encoding="utf-8")
    (root / "docs_selected.source_manifest.json").write_text('{"num_docs": 1}', encoding="utf-8")
    write_manifest(folder)
    return folder


def write_variant(folder: Path, name: str, train: np.ndarray, val: np.ndarray, train_shards: int) -> None:
    """The shards of one variant."""
    place = folder / "datasets" / "datasets" / name
    place.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.array_split(train, train_shards)):
        write_shard(place / f"fineweb_train_{number:06d}.bin", part)
    write_shard(place / "fineweb_val_000000.bin", val)


def write_manifest(folder: Path) -> None:
    """manifest.json of what lies there."""
    root, datasets = folder / "datasets", []
    kinds = {"sp1024": ("sp_bpe_1024", "sentencepiece_bpe", 1024), "byte260": ("pure_byte_260", "byte", 260)}
    for place in sorted(path for path in (root / "datasets").iterdir() if path.is_dir()):
        tokenizer, kind, vocab = kinds[place.name.rpartition("_")[2]]
        stats: dict[str, int] = {"docs_total": 30, "docs_val": 10, "docs_train": 20}
        for split in ("train", "val"):
            shards = sorted(place.glob(f"fineweb_{split}_*.bin"))
            stats |= {f"files_{split}": len(shards), f"tokens_{split}": sum(len(read_shard(one)) for one in shards)}
        for what in ("files", "tokens"):
            stats[f"{what}_total"] = stats[f"{what}_train"] + stats[f"{what}_val"]
        entry = {"name": place.name, "tokenizer_name": tokenizer, "tokenizer_kind": kind, "vocab_size": vocab}
        globs = {f"{split}_glob": f"datasets/{place.name}/fineweb_{split}_*.bin" for split in ("train", "val")}
        datasets.append({**entry, "path": f"datasets/{place.name}", **globs, "bos_id": 1, "eos_id": 2, "stats": stats})
    paths = {"model_path": "tokenizers/fineweb_1024_bpe.model", "vocab_path": "tokenizers/fineweb_1024_bpe.vocab"}
    tokenizers: list[dict[str, typing.Any]] = [
        {"name": "sp_bpe_1024", "kind": "sentencepiece_bpe", "vocab_size": 1024, "bos_id": 1, "eos_id": 2, **paths},
        {"name": "pure_byte_260", "kind": "byte", "vocab_size": 260, "path": "tokenizers/fineweb_pure_byte_260.json"},
    ]
    text = {"version": "10B", "num_docs": 30, "num_val_docs": 10, "shard_size": 100_000_000}
    (root / "manifest.json").write_text(
        json.dumps({**text, "tokenizers": tokenizers, "datasets": datasets}, indent=1), encoding="utf-8"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.jobs.loopback_hub", description="a hub on this machine")
    parser.add_argument(
        "--folder", type=Path, required=True, help="files of the repository, datasets/manifest.json ..."
    )
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--demo", type=int, metavar="SHARDS", help="fill the folder with the embedded corpus first")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND:PATH[:TIMES]", help="repeatable")
    parser.add_argument("--rate", type=float, help="bytes a second of each connection")
    args = parser.parse_args()
    if args.demo:
        write_demo_hub(args.folder, args.demo)
    hub = LoopbackHub(args.folder, args.port)
    for text in args.fault:
        kind, _, rest = text.partition(":")
        path, _, times = rest.partition(":")
        if not path or not (kind in FAULTS or kind.isdecimal()) or (times and not times.isdecimal()):
            parser.error(f"--fault {text}: not KIND:PATH[:TIMES] with KIND an HTTP status or {', '.join(FAULTS)}")
        hub.fail(path, kind, int(times) if times else FOR_EVER)
    hub.rate = args.rate
    print(hub.url, flush=True)
    hub.server.serve_forever()


if __name__ == "__main__":
    main()
