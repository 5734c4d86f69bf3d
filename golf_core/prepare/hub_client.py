"""Our side of the conversation with a Hugging Face hub: a commit, the size and hash of its files, their bytes.

Metadata is asked for through HfApi, and bytes come through the client's own session, URLs and headers, as a stream into
a file of ours that a later call goes on with. `hf_hub_download` is not used: it writes into a file whose name is drawn
anew by each call and removed by each failure, over HTTP and over Xet alike, so a kill would cost what had come.
"""

import contextlib
import functools
import hashlib
import re
import threading
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, RepoFile, constants, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from golf_core.data.shards import DataError
from golf_core.prepare.endpoint import shown_endpoint
from golf_core.prepare.hub_errors import HubError, HubFault, HubStopped, translated
from golf_core.prepare.hub_parallel import FetchTally

AGENT = "golf-orchestrator"  # who asks, in the headers
ASK_SECONDS = 30.0  # without an answer; the client itself would wait for ever
PATHS_A_QUESTION = 100
PROGRESS_BYTES = 1 << 16  # a stream that brought as many was no failed try
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256_HEX, SHA1_HEX = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
HASH_BLOCK = 1 << 20

Answer = typing.TypeVar("Answer")


@dataclass(frozen=True)
class HubFile:
    """A file of the commit, as the hub lists it."""

    path: str  # in the repository
    size: int
    digest: str  # SHA-256 of what git-lfs or Xet holds, else the SHA-1 that git gives its blob

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def digest_of(self, path: Path) -> str:
        """The hash of a local file, of the kind that the hub lists for this one."""
        digest = hashlib.sha256() if len(self.digest) == 64 else hashlib.sha1(usedforsecurity=False)
        if len(self.digest) != 64:
            digest.update(b"blob %d\0" % path.stat().st_size)
        with path.open("rb") as file:
            while block := file.read(HASH_BLOCK):
                digest.update(block)
        return digest.hexdigest()


class Hub:
    """A dataset repository at one commit. Its methods raise HubError, DataError or OSError, nothing of the client's."""

    def __init__(
        self, repo: str, revision: str | None, waits: Sequence[float], say: Callable[[str], None], stop: threading.Event
    ) -> None:
        """`waits`: seconds before each further try of something that may pass."""
        self.repo, self.waits, self.say, self.stop = repo, waits, say, stop
        try:
            self.endpoint = shown_endpoint(constants.ENDPOINT)
        except ValueError as error:
            raise DataError(str(error)) from None
        self.api = HfApi(endpoint=constants.ENDPOINT, library_name=AGENT)
        self.commit = self._pinned(revision)

    def _pinned(self, revision: str | None) -> str:
        what = f"revision {revision}" if revision else "its newest revision"

        def question() -> typing.Any:
            with self._like_a_hub(self.repo):
                return self.api.repo_info(self.repo, repo_type="dataset", revision=revision, timeout=ASK_SECONDS)

        info = self._ask(question, f"{self.repo}, {what}")
        if not isinstance(info.sha, str) or not COMMIT.fullmatch(info.sha):
            raise HubError(f"{self.endpoint} names commit {str(info.sha)[:50]!r} for {self.repo}, which is none")
        return info.sha

    def _ask(self, question: Callable[[], Answer], what: str) -> Answer:
        """The answer, asked for again while what goes wrong may pass."""
        for wait in (*self.waits, None):
            if self.stop.is_set():
                raise HubStopped
            try:
                get_session().timeout = httpx2.Timeout(ASK_SECONDS)  # for those calls that take none
                return question()
            except Exception as error:
                fault = translated(error, what, self.repo, self.endpoint)
                if wait is None or not isinstance(fault, HubFault):
                    raise self._last_words(fault) from None
                pause = max(wait, fault.pause or 0.0)
                self.say(f"{fault}; again in {pause:.0f} s")
                if self.stop.wait(pause):
                    raise HubStopped from None
        raise AssertionError("the last wait is None")

    def _last_words(self, error: Exception) -> Exception:
        """A fault that stayed is an error; it says how often we asked and what to do."""
        if not isinstance(error, HubFault):
            return error
        tries = len(self.waits) + 1
        return HubError(
            f"{error}, {tries} times; give the same command later, which goes on with what came (a mirror: HF_ENDPOINT)"
        )

    def files(self, paths: Sequence[str], optional: Sequence[str] = ()) -> dict[str, HubFile]:
        """Size and hash of each of these files, and of those optional ones that there are. Raises HubError for one that
        the commit lacks."""
        asked, found = [*paths, *optional], dict[str, HubFile]()
        for start in range(0, len(asked), PATHS_A_QUESTION):
            part = asked[start : start + PATHS_A_QUESTION]
            listed = self._ask(functools.partial(self._paths_info, part), "the list of its files")
            found.update({file.path: file for file in listed})
        if missing := [path for path in paths if path not in found]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise HubError(
                f"{self.repo} at {self.commit[:12]} has no {missing[0]}{more}: less than its manifest says; try "
                "another --revision, fewer --train-shards, or no --with-docs"
            )
        return {path: found[path] for path in asked if path in found}

    def _paths_info(self, paths: list[str]) -> list[HubFile]:
        with self._like_a_hub("the list of its files"):
            answer = self.api.get_paths_info(self.repo, paths, revision=self.commit, repo_type="dataset")
        return [_listed(entry) for entry in answer if isinstance(entry, RepoFile)]

    @contextlib.contextmanager
    def _like_a_hub(self, what: str) -> Iterator[None]:
        """What the client cannot read as an answer is a fault of whoever gave it: a page of a proxy, say."""
        try:
            yield
        except HFValidationError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise HubFault(
                f"{self.endpoint} answers {what} with something else than a hub does, a page perhaps"
            ) from None

    def read(self, path: str, most: int, scratch: Path) -> bytes:
        """A small file of the commit, checked like every other."""
        file = self.files([path])[path]
        if file.size > most:
            raise HubError(f"{self.repo}: {path} has {file.size:,} bytes; at most {most:,} are expected of it")
        self.download(file, scratch, FetchTally(file.size, 1))
        data = scratch.read_bytes()
        scratch.unlink()
        return data

    def download(self, file: HubFile, part: Path, tally: FetchTally) -> None:
        """Make `part` hold `file`, going on from what it holds.

        Verified against size and hash. What a failure leaves in `part` is what the next call goes on from."""
        part.parent.mkdir(parents=True, exist_ok=True)
        for last in (False, True):
            self._complete(file, part, tally)
            if (digest := file.digest_of(part)) == file.digest:
                return
            part.unlink()
            tally.resumed(-file.size)
            what = f"{file.path} came with hash {digest[:12]}; {self.repo} lists {file.digest[:12]}"
            if last:
                raise HubError(
                    f"{what}; it was fetched twice and is not kept: a proxy may change it; try another network"
                )
            self.say(f"{what}; once more from the start")

    def _complete(self, file: HubFile, part: Path, tally: FetchTally) -> None:
        if part.exists() and part.stat().st_size > file.size:
            part.unlink()
        part.touch()
        tally.resumed(part.stat().st_size)
        while part.stat().st_size < file.size:
            self._ask(lambda: self._stream(file, part, tally), file.path)

    def _stream(self, file: HubFile, part: Path, tally: FetchTally) -> None:
        """Append what the hub sends of the rest of `file`. A stream that ends early after some progress is no failure:
        the caller asks for what is left."""
        start = part.stat().st_size
        came = 0
        try:
            with self._opened(file, start) as response, part.open("r+b") as out:
                if response.status_code == httpx2.codes.OK and start:  # the hub does not cut
                    tally.resumed(-start)
                    start = 0
                out.truncate(start)
                out.seek(start)
                for block in response.iter_bytes():
                    if self.stop.is_set():
                        raise HubStopped
                    if start + came + len(block) > file.size:
                        raise HubFault(f"{self.endpoint} sends more than the {file.size:,} bytes of {file.path}")
                    out.write(block)
                    came += len(block)
                    tally.arrived(len(block))
        except httpx2.TransportError:
            if came < PROGRESS_BYTES:
                raise
            return
        if start + came < file.size and came < PROGRESS_BYTES:
            raise HubFault(f"{self.endpoint} ends {file.path} after {start + came:,} of {file.size:,} bytes")

    @contextlib.contextmanager
    def _opened(self, file: HubFile, start: int) -> Iterator[httpx2.Response]:
        """The hub's answer, its body unread, after its head was found to be that of this file."""
        url = hf_hub_url(self.repo, file.path, repo_type="dataset", revision=self.commit, endpoint=constants.ENDPOINT)
        # A body that is packed on the way could not be gone on with.
        headers = {**build_hf_headers(library_name=AGENT), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        timeout = httpx2.Timeout(ASK_SECONDS)
        with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            hf_raise_for_status(response)
            told, cut = response.headers, response.status_code == httpx2.codes.PARTIAL_CONTENT
            packed = told.get("content-encoding", "identity") != "identity"  # in spite of what was asked for
            expected = file.size - start if cut else file.size
            if told.get("content-type", "").startswith("text/html"):
                raise HubFault(f"{self.endpoint} sends a page instead of {file.path}")
            if cut and (packed or not told.get("content-range", "").startswith(f"bytes {start}-")):
                raise HubFault(f"{self.endpoint} sends another part of {file.path} than was asked for")
            if not packed and (length := told.get("content-length", str(expected))) != str(expected):
                raise HubFault(f"{self.endpoint} sends {length} bytes for {file.path} instead of {expected:,}")
            yield response


def _listed(entry: RepoFile) -> HubFile:
    """The hub's word about a file, checked: numbers and hashes only."""
    digest = entry.lfs.sha256 if entry.lfs is not None else entry.blob_id
    size = entry.size if entry.lfs is None else entry.lfs.size
    kind = SHA256_HEX if entry.lfs is not None else SHA1_HEX
    if type(size) is not int or size < 0 or not isinstance(digest, str) or not kind.fullmatch(digest):
        raise HubError(f"the hub lists {entry.path!r} with size {size!r} and hash {str(digest)[:70]!r}")
    return HubFile(path=entry.path, size=size, digest=digest)
