"""Recipes and grids by name. Each is a function without arguments that returns a frozen Recipe or Grid."""

from collections.abc import Callable

from golf_core.fields import ConfigError, nearest
from golf_core.recipes.baseline import naive_baseline
from golf_core.recipes.demo import demo
from golf_core.recipes.int6_ablation import int6_ablation, int6_qat_warmdown
from golf_core.recipes.legal_ttt import full_sota_4096, legal_ttt
from golf_core.recipes.long_context import long_context_4096, qat_int4_16l
from golf_core.recipes.recipe import Grid, Published, Recipe
from golf_core.recipes.shared_kv import shared_kv_12l, shared_kv_16l

RECIPES: dict[str, Callable[[], Recipe]] = {
    "demo": demo,
    "naive_baseline": naive_baseline,
    "long_context_4096": long_context_4096,
    "qat_int4_16l": qat_int4_16l,
    "legal_ttt": legal_ttt,
    "shared_kv_16l": shared_kv_16l,
    "shared_kv_12l": shared_kv_12l,
    "int6_qat_warmdown": int6_qat_warmdown,
}
GRIDS: dict[str, Callable[[], Grid]] = {"int6_ablation": int6_ablation, "full_sota_4096": full_sota_4096}
DEFAULT_RECIPES = {"cpu": "demo", "cuda": "legal_ttt"}


def load_recipe(name: str) -> Recipe:
    """The recipe of that name, or a ConfigError that names the nearest."""
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]()


def load_grid(name: str) -> Grid:
    """The grid of that name, or a ConfigError that names the nearest."""
    if name not in GRIDS:
        raise ConfigError(f"there is no grid {name!r}; {nearest(name, GRIDS)}")
    return GRIDS[name]()


def default_recipe(device: str) -> str:
    """What is run where no recipe is named: the demo on a CPU, the strongest legal recipe on rented GPUs."""
    return DEFAULT_RECIPES.get(device, "demo")


__all__ = ["GRIDS", "RECIPES", "Grid", "Published", "Recipe", "default_recipe", "load_grid", "load_recipe"]
