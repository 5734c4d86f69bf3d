"""prepare_data from documents: who encodes, what is told, and which errors end the command."""

import contextlib
import functools
import os
import sys
import typing
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import version
from pathlib import Path

from golf_core.data.shards import DataError
from golf_core.fields import nearest
from golf_core.prepare.blocks import BLOCK_BYTES, TextBlock
from golf_core.prepare.encode import EncodedBlock
from golf_core.prepare.export import Busy, DiskError, ExportProgress, export
from golf_core.prepare.export_plan import ExportRequest
from golf_core.prepare.export_state import counted
from golf_core.prepare.export_workers import encode_function
from golf_core.prepare.hub import VAL_DOCUMENTS
from jobs.progress import ProgressLine, duration_text, size_text
from orchestrator.backends.base import BackendError
from orchestrator.backends.ray_tasks import RayTasks, check_address
from orchestrator.errors import BackendFailure, UsageError

WAYS = ("ray", "process")
MOST_PER_CORE = 4  # workers of a local Ray


def export_documents(
    *, on: str, workers: int | None, address: str | None, show: Callable[[Path], int], **asked: typing.Any
) -> int:
    """Export, and hand the data folder to `show`. `asked` is what ExportRequest takes."""
    line = ProgressLine()
    last: ExportProgress | None = None
    notes: list[str] = []  # told once the export has begun: what was asked for could be used

    def tell(event: str | ExportProgress) -> None:
        nonlocal last
        while notes:
            line.say(notes.pop())
        if isinstance(event, str):
            line.say(event)
        else:
            last = event
            _show(line, event)

    if asked["val_documents"] != VAL_DOCUMENTS:
        notes.append(
            f"note: validation is to have {counted(asked['val_documents'], 'document')}, the challenge's "
            f"{VAL_DOCUMENTS:,}: scores on the two do not compare"
        )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Ray tells there of workers that died; ours is for the folder
            folder = export(ExportRequest(**asked), encoder(on, workers, address, line.say), tell)
    except DataError as error:
        raise UsageError(str(error)) from error
    except (DiskError, Busy, BackendError) as error:
        raise BackendFailure(str(error)) from error
    except KeyboardInterrupt:
        line.say("interrupted; every sealed shard is kept: the same command goes on from there")
        raise
    finally:
        line.end()
    if last is not None:
        line.say(f"{size_text(last.new_text_bytes)} of text in {duration_text(last.seconds)}, {_rate(last)}")
    return show(folder)


def encoder(
    on: str, workers: int | None, address: str | None, say: Callable[[str], None]
) -> Callable[[bytes, Iterator[TextBlock]], Generator[EncodedBlock, None, None]]:
    """Encodes in order, in the way that was asked for. Ray is started when the first block is wanted, and ended after
    the last. Raises UsageError."""
    if on not in WAYS:
        raise UsageError(f"--on {on}: documents are encoded by ray or process; {nearest(on, WAYS)}")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: at least one is needed")
    if on == "process" and (address is not None or workers not in (None, 1)):
        raise UsageError("--on process is this process alone: leave --workers and --address out, or say --on ray")
    if address is not None:
        check_address(address)
    cpus = len(os.sched_getaffinity(0))
    if address is None and workers is not None and workers > MOST_PER_CORE * cpus:
        raise UsageError(
            f"--workers {workers}: this machine gives {counted(cpus, 'core')}, and {MOST_PER_CORE * cpus} workers are "
            f"the most; more only take memory (some 350 MB each). Leave it out for {cpus}, or --address a cluster"
        )

    def encode_in_order(model: bytes, blocks: Iterator[TextBlock]) -> Generator[EncodedBlock, None, None]:
        make = functools.partial(encode_function, model, version("sentencepiece"))
        if on == "process":
            say("encoding in this process, one core")
            yield from map(make(), blocks)
            return
        with RayTasks(workers or cpus, BLOCK_BYTES, address) as tasks:
            say(f"encoding on {tasks.where}")
            yield from tasks.ordered_map(make, blocks, say, lambda block: block.place)

    return encode_in_order


def _show(line: ProgressLine, event: ExportProgress) -> None:
    text = f"{event.documents:,} documents, {size_text(event.text_bytes)} of text"
    if event.done is None:  # how much is left cannot be told
        line.show(f"{text}, {_rate(event)}", 0, 1)
    else:
        line.show(text, event.done - event.done_before, event.total - event.done)


def _rate(event: ExportProgress) -> str:
    return f"{size_text(event.new_text_bytes / max(event.seconds, 1e-9))}/s"
