"""Image files and pixels: reading, writing, colour, borders and MATLAB-compatible resizing."""

from hspan.imaging._arrays import to_uint8
from hspan.imaging._colour import rgb_to_y
from hspan.imaging._degrade import crop_to_multiple, degrade
from hspan.imaging._formats import (
    IMAGE_SUFFIXES,
    WRITABLE_SUFFIXES,
    best_suffix,
    format_of,
    images_in,
)
from hspan.imaging._layers import Layers, open_layers
from hspan.imaging._picture import ImageInfo, Picture
from hspan.imaging._read import probe_image, read_image
from hspan.imaging._resize import imresize
from hspan.imaging._scratch import create_scratch, flush, open_scratch, release, reserve
from hspan.imaging._write import write_image

__all__ = [
    "IMAGE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "ImageInfo",
    "Layers",
    "Picture",
    "best_suffix",
    "create_scratch",
    "crop_to_multiple",
    "degrade",
    "flush",
    "format_of",
    "images_in",
    "imresize",
    "open_layers",
    "open_scratch",
    "probe_image",
    "read_image",
    "release",
    "reserve",
    "rgb_to_y",
    "to_uint8",
    "write_image",
]
