"""What a recipe is: a config, where it comes from, and what was published of it. A grid is several, run as one."""

from dataclasses import dataclass

from golf_core.config import Config

STATUSES = ("measured", "expected", "pending")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A score somebody else gives for this recipe: `measured` by them, `expected` by them, or `pending`."""

    value: float | None  # bits per byte of the FineWeb validation text; None while pending
    status: str
    source: str
    step_ms: float | None = None  # mean time of a training step on the recipe's target; None: not told

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"published status {self.status!r} is not known; there are {', '.join(STATUSES)}")
        if (self.value is None) != (self.status == "pending"):
            raise ValueError(f"published value {self.value!r} and status {self.status!r} do not belong together")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    config: Config
    summary: str  # one sentence: what it is
    source: str  # where its values come from
    command: str  # how it is meant to be run
    expects: str  # time and result, with where that was seen
    target: str = "cpu"  # the hardware that it is meant for: "cpu", "H100:1", "H100:8"
    published: Published | None = None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Variants of one question, submitted together."""

    name: str
    summary: str
    source: str
    command: str
    target: str
    recipes: tuple[Recipe, ...]

    def __post_init__(self) -> None:
        names = [recipe.config.name for recipe in self.recipes]
        if len(set(names)) != len(names):
            raise ValueError(f"grid {self.name}: its variants' names are not distinct: {names}")
