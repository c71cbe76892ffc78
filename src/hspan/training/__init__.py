"""Training: recipes, the loop, checkpoints and exact resume."""

from hspan.training._dictionary import fit_spmsr
from hspan.training._module import DivergenceError, SRTrainingModule
from hspan.training._muon import Muon
from hspan.training._recipe import Recipe, list_recipes, load_recipe
from hspan.training._run import Observer, TrainingResult, train
from hspan.training._schedule import lr_factor
from hspan.training._transfer import transfer_weights
from hspan.training._validation import ValidationSet

__all__ = [
    "DivergenceError",
    "Muon",
    "Observer",
    "Recipe",
    "SRTrainingModule",
    "TrainingResult",
    "ValidationSet",
    "fit_spmsr",
    "list_recipes",
    "load_recipe",
    "lr_factor",
    "train",
    "transfer_weights",
]
