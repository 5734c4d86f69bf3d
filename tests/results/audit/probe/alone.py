"""The toy evaluators as files that stand alone: in a sandbox nothing of this checkout can be read."""

from pathlib import Path

HERE, PACKAGE = Path(__file__).parent, "tests.results.audit.probe."


def write_alone(folder: Path) -> None:
    for name in ("toys", "legal", "cheats"):
        text = (HERE / f"{name}.py").read_text(encoding="utf-8").replace(PACKAGE, "")
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
