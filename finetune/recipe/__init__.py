"""Recipes: strict YAML in, a frozen Recipe out."""

from finetune.recipe.loading import load_recipe
from finetune.recipe.schema import FileData, HubData, Recipe
from finetune.recipe.specs import read_schedule

__all__ = ["FileData", "HubData", "Recipe", "load_recipe", "read_schedule"]
