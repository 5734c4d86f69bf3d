"""What general compressors make of the embedded validation text: measured once, stored in data/compressors.json."""

from pathlib import Path

from golf_core.rundir import RunDirError, read_json
from results.dataset import EMBEDDED_SHA256
from results.facts import Facts

STORED = Path(__file__).resolve().parents[2] / "data" / "compressors.json"


def compressor_lines(data_sha256: str) -> list[tuple[str, float, float]]:
    """(name, BPB alone, BPB after the training text), the best last; none for other data than the embedded corpus."""
    if data_sha256 != EMBEDDED_SHA256:
        return []
    try:
        told = Facts(read_json(STORED), str(STORED))
    except RunDirError:
        return []  # installed without a checkout: the lines are left out
    rows = [Facts(one if isinstance(one, dict) else {}, told.place) for one in told.items("compressors")]
    found = [(row.text("name"), row.number("alone_bpb"), row.number("primed_bpb")) for row in rows]
    return sorted(found, key=lambda one: -one[2])
