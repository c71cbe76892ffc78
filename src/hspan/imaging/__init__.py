"""Image files and pixels: reading, writing, colour, borders and MATLAB-compatible resizing."""

from hspan.imaging._resize import imresize

__all__ = ["imresize"]
