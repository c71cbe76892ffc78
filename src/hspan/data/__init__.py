"""Folders of images: which files belong together."""

from hspan.data._layout import ImagePair, Layout, find_layout, find_pairs

__all__ = ["ImagePair", "Layout", "find_layout", "find_pairs"]
