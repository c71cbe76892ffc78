"""Trained weights: our safetensors files, shipped weights, and official checkpoints."""

from hspan.weights._convert import convert_checkpoint
from hspan.weights._hash import weights_hash
from hspan.weights._load import load_model
from hspan.weights._save import save_model
from hspan.weights._shipped import ShippedWeight, shipped_weights
from hspan.weights._stated import licence_of, provenance_of

__all__ = [
    "ShippedWeight",
    "convert_checkpoint",
    "licence_of",
    "load_model",
    "provenance_of",
    "save_model",
    "shipped_weights",
    "weights_hash",
]
