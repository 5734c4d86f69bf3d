"""The data of a plan on Modal: what checked.json on the data volume says, where the volume lists the same files.

No container is needed for that, and nothing but two small answers comes over the network.
"""

import dataclasses
import posixpath
import typing
from pathlib import PurePosixPath

from orchestrator.cloud.data import CHECKED, Checked, CheckedError, Listing, fits
from orchestrator.cloud.options import DATA_MOUNT, DATA_VOLUME
from orchestrator.errors import UsageError
from orchestrator.spec import Data

DATASETS = "datasets"
FILL = "python jobs/prepare_data.py --on modal"


class DataChanged(UsageError):
    """Files of the volume are not those that were checked."""


class Account(typing.Protocol):
    """As backends/modal_client.py has it."""

    def read(self, path: str, volume: str) -> bytes | None: ...

    def listing(self, path: str, volume: str) -> Listing: ...

    def folders(self, path: str, volume: str) -> list[str]: ...


@dataclasses.dataclass(frozen=True)
class DataVolume:
    """The data volume of an account. Paths have no slash before them."""

    account: Account

    def read(self, path: str) -> bytes | None:
        """A file whole; None where there is none."""
        return self.account.read(path, DATA_VOLUME)

    def listing(self, path: str) -> Listing:
        """Of the files in a folder, by name; empty where there is none."""
        return self.account.listing(path, DATA_VOLUME)

    def names(self) -> list[str]:
        """The data folders."""
        return [name for name in self.account.folders(DATASETS, DATA_VOLUME) if not name.startswith(".")]


class DataOnVolume:
    """`data`: /data/datasets/NAME, as containers see it, or NAME alone."""

    def __init__(self, volume: DataVolume, data: str, tokenizer: str | None, vocab: int | None) -> None:
        self.volume, self.vocab, self.tokenizer = volume, vocab, tokenizer
        self.folder = folder_of(data)

    def result(self) -> Data:
        checked = read_checked(self.volume, self.folder)
        there, tokenizer = f"{DATA_MOUNT}/{self.folder}", tokenizer_of(self.folder, checked)
        if self.tokenizer not in (None, tokenizer, posixpath.basename(tokenizer)):
            raise UsageError(f"--tokenizer {self.tokenizer}: {there} was made with {tokenizer}; leave --tokenizer out")
        said = checked.identity
        self._check_vocab(said["pieces"], tokenizer)
        return Data(
            path=there,
            sha256=checked.data_sha256,
            tokenizer_path=tokenizer,
            tokenizer_sha256=checked.tokenizer_sha256,
            name=said["name"],
            source=said["source"],
            shards=dict(said["shards"]),
            train_tokens=said["train_tokens"],
            val_tokens=said["val_tokens"],
            pieces=said["pieces"],
        )

    def _check_vocab(self, pieces: int | None, tokenizer: str) -> None:
        """The check on the volume found every token below the number of pieces."""
        if self.vocab is None:
            return
        if pieces is None:
            raise UsageError(f"{tokenizer} is no SentencePiece model: scripts of your own may read it, recipes cannot")
        if pieces > self.vocab:
            raise UsageError(f"{tokenizer} has {pieces} pieces, more than the model's vocab of {self.vocab}")

    def close(self) -> None:
        pass


def folder_of(data: str) -> str:
    """Where in the volume a data folder lies.

    >>> folder_of("/data/datasets/fineweb10B_sp1024"), folder_of("fineweb10B_sp1024")
    ('datasets/fineweb10B_sp1024', 'datasets/fineweb10B_sp1024')
    """
    name = data.removeprefix(f"{DATA_MOUNT}/").removeprefix(f"{DATASETS}/").rstrip("/")
    if not name or name != PurePosixPath(name).name or name.startswith(".") or not name.isprintable() or "\\" in name:
        raise UsageError(
            f"--data {data}: on Modal it is a folder of the volume {DATA_VOLUME}, written NAME or "
            f"{DATA_MOUNT}/{DATASETS}/NAME; `{FILL} --status` tells which there are, `{FILL} --upload {data}` sends one"
        )
    return f"{DATASETS}/{name}"


def tokenizer_of(folder: str, checked: Checked) -> str:
    """Its path in containers."""
    return posixpath.normpath(f"{DATA_MOUNT}/{folder}/{checked.tokenizer_path}")


def read_checked(volume: DataVolume, folder: str) -> Checked:
    """What a folder of the volume was found to be, and still is. Raises UsageError."""
    name = PurePosixPath(folder).name
    listing = dict(volume.listing(folder))
    if not listing:
        raise UsageError(f"the volume {DATA_VOLUME} has no data {name}; {_instead(volume)}")
    if CHECKED not in listing:
        raise UsageError(
            f"data {name} on the volume {DATA_VOLUME} was never checked, or its check has not come to its end; "
            f"`{FILL} --check {name}` reads it all, once"
        )
    try:
        checked = Checked.from_bytes(volume.read(f"{folder}/{CHECKED}") or b"", f"{folder}/{CHECKED}")
    except CheckedError as error:
        raise DataChanged(f"{error}; `{FILL} --check {name}` writes it anew") from None
    if (parent := posixpath.dirname(checked.tokenizer_path)).startswith(".."):
        near = volume.listing(posixpath.normpath(f"{folder}/{parent}"))
        listing |= {f"{parent}/{file}": seen for file, seen in near.items()}
    if (differs := fits(checked, listing)) is not None:
        raise DataChanged(
            f"data {name} on the volume {DATA_VOLUME} was changed since it was checked ({differs}); "
            f"`{FILL} --check {name}` reads it again"
        )
    return checked


def _instead(volume: DataVolume) -> str:
    names = volume.names()
    fill = f"`{FILL} --variant sp1024` brings the challenge's, `{FILL} --upload FOLDER` one from here"
    return f"there {'is' if len(names) == 1 else 'are'} {', '.join(names)}; {fill}" if names else f"it is empty: {fill}"
