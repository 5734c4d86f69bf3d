"""What is in the image of a container on Modal: a Python, and packages, each in one version.

They are those of the lock, so that a container has what was tried here; others come from the setting `modal_packages`.
torch is the package index's own build, which is the one for CUDA and brings its CUDA libraries in fixed versions: a
container with GPUs needs that, one without runs it as well, and all seeds are of one build.

No kernels for attention are among them: no wheel on the package index has both passes for this torch and what
golf_core/model/flash.py imports (looked at on 2026-11-22: flash-attn has no wheel, flash-attn-4 another interface, and
the builds of FlashAttention 3 there are for inference: the first backward pass would end). See docs/modal.md.
"""

import re
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.errors import UsageError
from orchestrator.lock import normal, numbers, pins

# Of a bundle and the worker, and what they need; then of the job that prepares data. A test holds it to be whole.
PACKAGES = (
    *("torch", "numpy", "sentencepiece", "zstandard", "brotli", "constriction", "nvidia-ml-py"),
    *("filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy", "typing-extensions"),
    *("huggingface-hub", "httpx2", "arro3-io", "arro3-core", "typer", "rich", "annotated-doc", "anyio", "click", "h11"),
    *("hf-xet", "httpcore2", "idna", "markdown-it-py", "mdurl", "packaging", "pygments", "pyyaml", "shellingham"),
    *("tqdm", "truststore"),
)
OLDEST, NEWEST = (3, 11), (3, 13)  # Pythons of the lock
FORM = "write NAME==VERSION, or NAME @ https://...whl"
NAME = r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
VERSION = r"([0-9][A-Za-z0-9.!+_-]*)"
PINNED = re.compile(rf"{NAME}(?:\[[A-Za-z0-9._-]+\])? *== *{VERSION}")
AT_URL = re.compile(rf"{NAME}(?:\[[A-Za-z0-9._-]+\])? *@ *(\S+)")
WHEEL = re.compile(rf"{NAME}-{VERSION}(?:-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
HASH = re.compile(r"|sha256=[0-9a-f]{64}")


class _Extra(typing.NamedTuple):
    name: str  # normal
    version: str
    text: str  # as pip is asked for it


def image_python(version: Sequence[int]) -> str:
    """Of the image: the same as here, as far as the lock was made for it.

    >>> image_python((3, 12, 1)), image_python((3, 14))
    ('3.12', '3.13')
    """
    return ".".join(str(part) for part in min(max(tuple(version[:2]), OLDEST), NEWEST))


def read_packages(text: str | None, place: str, root: Path) -> tuple[str, ...]:
    """The packages of a setting, which has them with commas. Raises UsageError for one that is not pinned, or that
    contradicts the lock."""
    given = [part.strip() for part in (text or "").split(",")]
    return tuple(one.text for one in _extras([part for part in given if part], place, root))


def pinned_packages(root: Path, extra: Iterable[str] = ()) -> list[str]:
    """All of the image. `extra` is what read_packages gave."""
    extras = _extras(extra, "modal_packages", root)
    locked, given = pins(root), {one.name for one in extras}
    return [f"{name}=={locked[name]}" for name in PACKAGES if name not in given] + [one.text for one in extras]


def _extras(packages: Iterable[str], place: str, root: Path) -> list[_Extra]:
    locked, found = pins(root), dict[str, _Extra]()
    for package in packages:
        one = _read(package, place)
        pin = locked.get(one.name)
        if pin is not None and comparable(one.version) != comparable(pin):
            raise UsageError(
                f"{place}: {one.text} contradicts requirements.lock, which has {one.name}=={pin}; leave it away, or "
                "change the lock, here and in the image alike"
            )
        if found.setdefault(one.name, one) != one:
            raise UsageError(f"{place}: {one.name} is named twice, {found[one.name].text} and {one.text}; keep one")
    return list(found.values())


def comparable(version: str) -> tuple[tuple[int, ...], str]:
    """To compare by, whatever the build: 2.13.0+cu130 is 2.13.

    >>> comparable("2.13.0+cu130") == comparable("2.13"), comparable("1.0rc1") == comparable("1")
    (True, False)
    """
    public = version.partition("+")[0].lower()
    return numbers(public), "".join(re.split(r"([a-z])", public, maxsplit=1)[1:])


def _read(package: str, place: str) -> _Extra:
    if pinned := PINNED.fullmatch(package):
        return _Extra(normal(pinned[1]), pinned[2], package.replace(" ", ""))
    if at_url := AT_URL.fullmatch(package):
        return _wheel(at_url[1], at_url[2], place)
    shown = re.sub(r"//[^/@\s]*@", "//***@", package)
    raise UsageError(f"{place}: {shown!r} is not pinned, so that tomorrow's image would be another one; {FORM}")


def _wheel(name: str, url: str, place: str) -> _Extra:
    """A file by its address, whose name tells what it is. Its address stands in the image for all who see that."""
    try:
        parts = urlsplit(url)
        file = unquote(parts.path.rpartition("/")[2])
    except ValueError:
        raise UsageError(f"{place}: {name} @ is followed by no address; {FORM}") from None
    shown = f"{name} @ {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc or parts.query:
        raise UsageError(f"{place}: {shown}: it takes no password and no query, since it stands in the image; {FORM}")
    if parts.scheme != "https" or not parts.hostname or not (wheel := WHEEL.fullmatch(file)):
        raise UsageError(f"{place}: {shown} is no wheel at an https:// address, named by its version; {FORM}")
    if normal(wheel[1]) != normal(name):
        raise UsageError(f"{place}: {shown} is a wheel of {wheel[1]}, not of {name}; {FORM}")
    if not HASH.fullmatch(parts.fragment):
        raise UsageError(f"{place}: {shown}#{parts.fragment}: after `#` there may be sha256= and 64 hexadecimal digits")
    return _Extra(normal(name), wheel[2], f"{name} @ {url}")
