"""What a recipe is: a config, where it comes from, and what was published of it."""

from dataclasses import dataclass

from golf_core.config import Config


@dataclass(frozen=True, kw_only=True)
class Published:
    """A score somebody else claims for this recipe. `status`: measured, expected or pending."""

    value: float | None  # bits per byte of the FineWeb validation text
    status: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    config: Config
    summary: str  # one sentence: what it is
    source: str  # where its values come from
    command: str  # how it is meant to be run
    expects: str  # time and result, with where that was seen
    published: Published | None = None
