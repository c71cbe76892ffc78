"""Folders of images, their decoded copy on disk, and random patches from it."""

from hspan.data._cache import (
    CachedImage,
    ImageCache,
    build_cache,
    default_cache_folder,
)
from hspan.data._check import FolderReport, check_folder
from hspan.data._degrade import degrade_folder
from hspan.data._layout import ImagePair, Layout, find_layout, find_pairs
from hspan.data._read import load_pair, read_pair, read_rgb
from hspan.data._sampler import PatchSampler

__all__ = [
    "CachedImage",
    "FolderReport",
    "ImageCache",
    "ImagePair",
    "Layout",
    "PatchSampler",
    "build_cache",
    "check_folder",
    "default_cache_folder",
    "degrade_folder",
    "find_layout",
    "find_pairs",
    "load_pair",
    "read_pair",
    "read_rgb",
]
