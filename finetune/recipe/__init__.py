"""Recipes: strict YAML in, a frozen Recipe out."""

from finetune.recipe.loading import is_study, load_recipe, load_study, read_settings
from finetune.recipe.rungs import Rung, problems_on
from finetune.recipe.schema import FileData, FolderData, HubData, Recipe
from finetune.recipe.specs import read_schedule
from finetune.recipe.study import PEAK, SEED, Setting, Share, Study, for_tuning, with_peak, with_seed

__all__ = [
    "PEAK",
    "SEED",
    "FileData",
    "FolderData",
    "HubData",
    "Recipe",
    "Rung",
    "Setting",
    "Share",
    "Study",
    "for_tuning",
    "is_study",
    "load_recipe",
    "load_study",
    "problems_on",
    "read_schedule",
    "read_settings",
    "with_peak",
    "with_seed",
]
