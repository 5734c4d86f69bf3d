"""prepare_data on Modal's data volume: what is there, what is missing, and who brings it.

Where the volume has the data, checked, nothing is started, unless --check asks for it. Else a container brings and
reads it (jobs/data_volume.py); what lies here is sent first.
"""

import dataclasses
import io
import json
import os
import posixpath
import sys
import typing
from collections.abc import Mapping
from pathlib import Path

from golf_core.config_model import ModelConfig
from golf_core.data.manifest import DATA_MANIFEST, DataManifest, ManifestError, damage, read_manifest, tokenizer_path
from golf_core.data.mending import PUBLISHED_REPO
from golf_core.prepare.hub import FetchRequest
from jobs.hub_data import SCHEMA_VERSION, print_table
from jobs.progress import size_text
from orchestrator.cli import resolve
from orchestrator.cloud.data import Checked, sha256_of
from orchestrator.cloud.options import DATA_MOUNT, DATA_VOLUME, AppOptions
from orchestrator.cloud.site import open_cloud
from orchestrator.cloud.volume_data import (
    DATASETS,
    FILL,
    DataChanged,
    DataVolume,
    folder_of,
    read_checked,
    tokenizer_of,
)
from orchestrator.errors import FAILED, NOT_FINISHED, OK, UsageError


@dataclasses.dataclass(frozen=True)
class ModalData:
    """The data volume, and what a container that writes to it is given."""

    volume: DataVolume
    secret: str | None
    as_json: bool

    def there(self, name: str) -> Checked | None:
        """What a data folder was found to be; None where it must be looked at again, or is not there."""
        try:
            return read_checked(self.volume, folder_of(name))
        except UsageError:
            return None

    def fill_from_hub(self, request: FetchRequest) -> int:
        """The published export: once a variant, however often it is asked for."""
        for name in self.volume.names():
            if (checked := self.there(name)) is not None and _is_asked(checked, request):
                return self._tell(name, checked, "has it")
        flags = ["--variant", request.variant, "--train-shards", str(request.train_shards)]
        flags += ["--workers", str(request.workers)]
        flags += ["--with-docs"] * request.with_docs
        flags += ["--repo", request.repo] if request.repo != PUBLISHED_REPO else []
        flags += ["--revision", request.revision] if request.revision is not None else []
        return self._fill(flags, None)

    def check(self, name: str) -> int:
        """Read all of a folder that is there, whatever an earlier check of it said."""
        name = posixpath.basename(folder_of(name))
        if name not in self.volume.names():
            read_checked(self.volume, folder_of(name))  # raises, and says what there is instead
        return self._fill(None, name)

    def send(self, folder: Path) -> int:
        """A data folder of this machine."""
        try:
            manifest = read_manifest(folder) if folder.is_dir() else None
        except ManifestError as error:
            raise UsageError(str(error)) from None
        if manifest is None:
            raise UsageError(
                f"--upload {folder}: it must be a data folder with a {DATA_MANIFEST}, as prepare_data.py makes it; "
                "without one nobody can tell whether the data is as it was published"
            )
        print(f"reading all of {folder}", file=sys.stderr, flush=True)
        files, checked = files_to_send(folder, manifest, folder_of(manifest.name)), self.there(manifest.name)
        sent = (sha256_of(manifest), manifest.tokenizer.sha256)
        if checked is not None and (checked.data_sha256, checked.tokenizer_sha256) == sent:
            return self._tell(manifest.name, checked, "has it")
        size = sum(len(one) if isinstance(one, bytes) else one.stat().st_size for one in files.values())
        print(
            f"sending {len(files)} files, {size_text(size)}, to the volume {DATA_VOLUME}", file=sys.stderr, flush=True
        )
        _upload(files)
        return self._fill(None, manifest.name)

    def _fill(self, flags: list[str] | None, name: str | None) -> int:
        from jobs.on_modal import call, declare

        declare(AppOptions(gpu=None, secret=self.secret))
        from jobs.data_volume import app, fill

        if flags is not None and "HF_TOKEN" in os.environ and self.secret is None:
            print("note: HF_TOKEN is not sent to Modal; --secret NAME names a modal.Secret with one", file=sys.stderr)
        try:
            told = call(app, fill, flags, name, os.environ.get("HF_ENDPOINT"))
        except KeyboardInterrupt:
            print("interrupted; what came is kept: the same command goes on from there", file=sys.stderr)
            raise
        if told["code"] != OK:
            return int(told["code"])
        name = str(told["name"])
        return self._tell(name, read_checked(self.volume, folder_of(name)), "is filled")

    def _tell(self, name: str, checked: Checked, state: str) -> int:
        """As of a folder of this machine (hub_data.show_whole); on stdout the folder as containers see it."""
        said, folder = checked.identity, folder_of(name)
        path, tokenizer = f"{DATA_MOUNT}/{folder}", tokenizer_of(folder, checked)
        command = f"python -m orchestrator submit --on modal --data {name}"
        if said["pieces"] is None:
            command = f"python -m orchestrator submit --on modal --script train_gpt.py --data {name}"
        elif said["pieces"] != ModelConfig.vocab:
            command += f" --set model.vocab={said['pieces']}"
        tokens = {split: said[f"{split}_tokens"] for split in said["shards"]}
        if self.as_json:
            told = {
                "schema_version": SCHEMA_VERSION,
                "data": path,
                "tokenizer": tokenizer,
                "shards": said["shards"],
                "tokens": tokens,
                "source": said["source"],
                "next": command,
            }
            print(json.dumps(told, indent=1))
            return OK
        for split, count in said["shards"].items():
            print(f"  {split:5}  {count:>4} shards  {tokens[split]:>14,} tokens", file=sys.stderr)
        pieces = "no SentencePiece model" if said["pieces"] is None else f"{said['pieces']} pieces"
        print(f"  tokenizer  {tokenizer} ({pieces})", file=sys.stderr)
        print(f"the volume {DATA_VOLUME} {state}, checked; next:\n  {command}", file=sys.stderr)
        print(path)
        return OK

    def show(self) -> int:
        """What the volume has, by its listing alone."""
        rows = [_row(self.volume, name) for name in self.volume.names()]
        if self.as_json:
            print(json.dumps({"schema_version": SCHEMA_VERSION, "volume": DATA_VOLUME, "data": rows}, indent=1))
        elif not rows:
            print(f"the volume {DATA_VOLUME} holds no data; next:\n  {FILL} --variant sp1024", file=sys.stderr)
        else:
            head = ("data", "state", "train shards", "val shards", "size", "from")
            print_table(head, [_cells(row) for row in rows])
            for row in rows:
                if row["problem"]:
                    print(f"{row['name']}: {row['problem']}", file=sys.stderr)
        states = {row["state"] for row in rows}
        return FAILED if "changed" in states else OK if states == {"checked"} else NOT_FINISHED


def open_data(secret: str | None, as_json: bool) -> ModalData:
    """Raises CommandError where there is no token, or no server."""
    settings = resolve()
    return ModalData(DataVolume(open_cloud(settings)), secret or settings["modal_secret"], as_json)


def _is_asked(checked: Checked, request: FetchRequest) -> bool:
    source = checked.identity["source"] or {}
    asked: dict[str, typing.Any] = {"kind": "hub", "variant": request.variant, "repo": request.repo}
    if request.revision is not None:
        asked["revision"] = request.revision
    same = all(source.get(key) == value for key, value in asked.items())
    return same and checked.identity["shards"]["train"] == request.train_shards and not request.with_docs


def files_to_send(folder: Path, manifest: DataManifest, target: str) -> dict[str, Path | bytes]:
    """Where each file of a data folder goes. The tokenizer goes into the folder, and the manifest says so: elsewhere,
    one of the same name may belong to other data. Raises UsageError where the content is not what the manifest says."""
    if wrong := damage(folder, manifest):
        raise UsageError(
            f"{wrong[0]}. A folder that is not as its manifest says is not sent; `prepare_data.py --status` tells the "
            "mend"
        )
    found: dict[str, Path | bytes] = {f"{target}/{name}": folder / name for name in manifest.files}
    tokenizer = tokenizer_path(folder, manifest)
    told = json.loads((folder / DATA_MANIFEST).read_bytes())
    told["tokenizer"]["path"] = tokenizer.name
    content = json.dumps(told, indent=1, ensure_ascii=False).encode() + b"\n"
    return found | {f"{target}/{tokenizer.name}": tokenizer, f"{target}/{DATA_MANIFEST}": content}


def _upload(files: Mapping[str, Path | bytes]) -> None:
    from jobs.on_modal import asking
    from orchestrator.backends.modal_app import data_volume

    with asking(), data_volume().batch_upload(force=True) as batch:
        for place, content in files.items():
            batch.put_file(io.BytesIO(content) if isinstance(content, bytes) else content, place)


def _row(volume: DataVolume, name: str) -> dict[str, typing.Any]:
    size = sum(size for file, (size, _) in volume.listing(f"{DATASETS}/{name}").items() if file.endswith(".bin"))
    row: dict[str, typing.Any] = {"name": name, "bytes": size, "shards": None, "source": None, "problem": ""}
    try:
        said = read_checked(volume, folder_of(name)).identity
    except UsageError as error:
        return row | {"state": "changed" if isinstance(error, DataChanged) else "unchecked", "problem": str(error)}
    return row | {"state": "checked", "shards": said["shards"], "source": said["source"]}


def _cells(row: Mapping[str, typing.Any]) -> list[str]:
    shards, source = row["shards"] or {"train": "?", "val": "?"}, row["source"] or {}
    origin = str(source.get("kind", "?"))
    if origin == "hub":
        origin = f"{source.get('repo', '?')} at {str(source.get('revision', '?'))[:12]}"
    return [row["name"], row["state"], str(shards["train"]), str(shards["val"]), size_text(row["bytes"]), origin]
