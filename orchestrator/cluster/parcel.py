"""What travels to a cluster: our code, the text of the embedded corpus, and the order of a submit. Never data.

A parcel is a zip file, named by its content, so that it is sent once; the same code gives the same bytes. Jobs are
started in the folder that it is unpacked to, on every node.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass

from orchestrator.checkout import ROOT
from orchestrator.cluster.order import Order
from orchestrator.errors import BackendFailure, UsageError

ROOMS = ("golf_core", "orchestrator")
KINDS = (".py", ".toml")
CORPUS = "data/sotu_1901_2026.jsonl.xz"
ORDER = "order"  # the folder of it in a parcel
MAX_BYTES = 20_000_000
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip file knows: the hash is of the content alone


@dataclass(frozen=True)
class Parcel:
    name: str
    data: bytes

    @property
    def uri(self) -> str:
        return f"gcs://{self.name}"


def make_parcel(order: Order | None = None) -> Parcel:
    """Our code, and the order if there is one."""
    files = {
        str(path.relative_to(ROOT)): path.read_bytes()
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*"))
        if path.suffix in KINDS and path.is_file()
    }
    if not (ROOT / CORPUS).is_file():
        raise UsageError(f"{ROOT / CORPUS} is missing: a cluster is given the code of a checkout of the project")
    files[CORPUS] = (ROOT / CORPUS).read_bytes()
    if order is not None:
        files |= {f"{ORDER}/{name}": data for name, data in order.files().items()}
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, data)
    if packed.tell() > MAX_BYTES:
        raise BackendFailure(f"the code for the cluster has {packed.tell():,} bytes; at most {MAX_BYTES:,} are sent")
    return Parcel(f"_ray_pkg_golf_{digest.hexdigest()[:32]}.zip", packed.getvalue())
