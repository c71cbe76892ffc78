"""Folders of images, their decoded copy on disk, and random patches from it."""

from hspan.data._cache import (
    CachedImage,
    ImageCache,
    build_cache,
    default_cache_folder,
    load_pair,
)
from hspan.data._layout import ImagePair, Layout, find_layout, find_pairs
from hspan.data._read import read_rgb
from hspan.data._sampler import PatchSampler

__all__ = [
    "CachedImage",
    "ImageCache",
    "ImagePair",
    "Layout",
    "PatchSampler",
    "build_cache",
    "default_cache_folder",
    "find_layout",
    "find_pairs",
    "load_pair",
    "read_rgb",
]
