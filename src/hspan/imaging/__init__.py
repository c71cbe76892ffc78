"""Image files and pixels: reading, writing, colour, borders and MATLAB-compatible resizing."""

from hspan.imaging._colour import rgb_to_y
from hspan.imaging._degrade import crop_to_multiple, degrade
from hspan.imaging._resize import imresize

__all__ = ["crop_to_multiple", "degrade", "imresize", "rgb_to_y"]
