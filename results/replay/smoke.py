"""A smoke test of anybody's train_gpt.py: imported on this CPU in the replay's sandbox, never run as a program."""

import shutil
import sys
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from golf_core.rundir import RunDirError, read_json
from results.replay.sandbox import LEVELS, Limits, Ran, SandboxError, run_in_sandbox, work_folder
from results.replay.trace import NAMED, Opened, opened

CHILD = Path(__file__).with_name("smoke_child.py")
BESIDE = (".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".json", ".toml", ".txt", ".model", ".vocab")
MOST_FILES, MOST_BYTES = 64, 32_000_000  # of what lies beside the script and is shown to it
SMOKE = Limits(seconds=180.0, file_bytes=200_000_000, memory_bytes=48_000_000_000)


@dataclass(frozen=True)
class SmokeReport:
    imported: bool
    error: str  # why not, with the line of the script
    import_seconds: float | None
    import_cpu_seconds: float | None
    width: int | None  # of the model, as the script's hyperparameters say; None: not found
    layers: int | None
    vocabulary: int | None
    found_in: dict[str, str]  # where each of these three stands
    code_bytes: int  # of the script as it is
    stand_ins: tuple[str, ...]  # packages for GPUs that are not here
    sandbox: str  # the level, and what it holds
    outside: tuple[str, ...]  # what it asked for at import that was not to be had
    network: tuple[str, ...]

    def to_dict(self) -> dict[str, typing.Any]:
        return asdict(self)


def smoke(script: Path, limits: Limits = SMOKE, levels: Sequence[str] = LEVELS) -> SmokeReport:
    """Import a script and tell what of it is known then. Raises SandboxError where nothing can be run."""
    if not script.is_file():
        raise SandboxError(f"there is no file {script}")
    with work_folder() as work:
        place = work.inside / script.name
        for path in (script, *_beside(script)):
            shutil.copyfile(path, work.inside / path.name)
        child = work.inside / "hook" / CHILD.name
        shutil.copyfile(CHILD, child)
        report = work.outside / "files" / "report.json"
        env = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
        command = [sys.executable, str(child), str(place), str(report)]
        ran = run_in_sandbox(work, lambda level: command, env, limits, levels)
        return _report(script, report, ran, opened(ran.events, work))


def _beside(script: Path) -> list[Path]:
    """Files that the script may import or read at import, as far as they are few and small."""
    found: list[Path] = []
    left = MOST_BYTES
    for path in sorted(script.parent.iterdir()):
        if path.suffix in BESIDE and path.is_file() and not path.is_symlink() and path.name != script.name:
            left -= path.stat().st_size
            if left < 0 or len(found) == MOST_FILES:
                break
            found.append(path)
    return found


def _report(script: Path, report: Path, ran: Ran, seen: Opened) -> SmokeReport:
    try:
        told = read_json(report)
    except RunDirError:
        last = next((line.strip() for line in reversed(ran.output.splitlines()) if line.strip()), "it said nothing")
        why = "its time was over" if ran.timed_out else f"its process ended with {ran.code}: {last[:300]}"
        told = {"error": why}
    error = str(told.get("error", ""))
    found = {what: told.get(f"{what}_from") for what in ("width", "layers", "vocabulary")}
    return SmokeReport(
        imported=not error,
        error=error,
        import_seconds=_number(told.get("import_seconds")),
        import_cpu_seconds=_number(told.get("import_cpu_seconds")),
        width=_count(told.get("width")),
        layers=_count(told.get("layers")),
        vocabulary=_count(told.get("vocabulary")),
        found_in={what: place for what, place in found.items() if isinstance(place, str)},
        code_bytes=script.stat().st_size,
        stand_ins=tuple(str(one) for one in _list(told.get("stand_ins"))),
        sandbox=ran.words,
        outside=tuple(seen.outside[:NAMED]),
        network=tuple(seen.network[:NAMED]),
    )


def _number(value: typing.Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _count(value: typing.Any) -> int | None:
    return value if type(value) is int else None


def _list(value: typing.Any) -> list[typing.Any]:
    return value if isinstance(value, list) else []
