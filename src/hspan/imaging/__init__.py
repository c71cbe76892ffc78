"""Image files and pixels: reading, writing, colour, borders and MATLAB-compatible resizing."""

from hspan.imaging._arrays import to_uint8
from hspan.imaging._colour import rgb_to_y
from hspan.imaging._degrade import crop_to_multiple, degrade
from hspan.imaging._formats import IMAGE_SUFFIXES, WRITABLE_SUFFIXES, best_suffix, images_in
from hspan.imaging._picture import ImageInfo, Picture
from hspan.imaging._read import probe_image, read_image
from hspan.imaging._resize import imresize
from hspan.imaging._write import write_image

__all__ = [
    "IMAGE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "ImageInfo",
    "Picture",
    "best_suffix",
    "crop_to_multiple",
    "degrade",
    "images_in",
    "imresize",
    "probe_image",
    "read_image",
    "rgb_to_y",
    "to_uint8",
    "write_image",
]
