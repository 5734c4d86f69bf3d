"""What `submit` is asked for beyond its settings, and which of its flags exclude each other."""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.backends import MODAL
from orchestrator.errors import UsageError
from orchestrator.settings import Settings


@dataclass(frozen=True)
class Request:
    """The command line of `submit`, beyond its settings."""

    overrides: tuple[str, ...] = ()
    bundle: Path | None = None
    script: Path | None = None
    env: tuple[str, ...] = ()  # NAME=VALUE, for the script
    artifact: str | None = None  # glob, for the script
    dry_run: bool = False
    json: bool = False
    quiet: bool = False
    retry_failed: bool = False
    yes: bool = False
    parallel: bool = False
    rehearsal: bool = True
    install_packages: bool = False
    insecure: bool = False
    grid: Path | None = None
    detach: bool = False


def check_request(settings: Settings, request: Request) -> None:
    """A recipe, a script and a grid from a file exclude each other; what belongs to one is refused with another."""
    if request.detach and settings["on"] != MODAL:
        raise UsageError(
            "--detach is for --on modal: runs of this machine end with their process, and a cluster's controller is "
            "left with Ctrl-C once it has begun"
        )
    if request.grid is not None:
        given = [name for name in ("script", "bundle") if getattr(request, name, None) is not None]
        given += ["recipe"] * (settings.source("recipe") == "--recipe")
        if given:
            raise UsageError(f"--grid {request.grid} excludes --{given[0]}: the file names the recipe that it varies")
    if request.script is None:
        if request.env or request.artifact is not None:
            flag = "--env" if request.env else "--artifact"
            raise UsageError(f"{flag} is for --script, somebody's own program; a recipe has its values by --set")
        return
    given = [f"--{name}" for name in ("recipe", "dtype") if settings.source(name) == f"--{name}"]
    given += ["--set"] * bool(request.overrides) + ["--bundle"] * (request.bundle is not None)
    why = {
        "--recipe": "a submission runs either a recipe or a script",
        "--set": "a script's values are environment variables: --env NAME=VALUE",
        "--bundle": "a bundle is an edited train_gpt.py of a recipe",
        "--dtype": "a script chooses its dtype itself",
    }
    if given:
        raise UsageError(f"--script {request.script} excludes {given[0]}: {why[given[0]]}")
