"""Recipes by name. Each is a function without arguments that returns a frozen Recipe."""

from collections.abc import Callable

from golf_core.fields import ConfigError, nearest
from golf_core.recipes.baseline import naive_baseline
from golf_core.recipes.demo import demo
from golf_core.recipes.recipe import Published, Recipe

RECIPES: dict[str, Callable[[], Recipe]] = {"demo": demo, "naive_baseline": naive_baseline}


def load_recipe(name: str) -> Recipe:
    """The recipe of that name, or a ConfigError that names the nearest."""
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()


__all__ = ["RECIPES", "Published", "Recipe", "load_recipe"]
