"""XMP, the descriptions that photo software keeps as XML: kept, but for what has changed."""

from __future__ import annotations

import re

_ORIENTATION = ("tiff:Orientation",)
_WIDTH = ("tiff:ImageWidth", "exif:PixelXDimension")
_HEIGHT = ("tiff:ImageLength", "exif:PixelYDimension")


def updated(packet: bytes, width: int, height: int) -> bytes:
    """The packet with orientation 1 and these dimensions, where it names any.

    A property is an attribute or an element of its own; all else stays byte by byte.
    """
    for names, value in ((_ORIENTATION, 1), (_WIDTH, width), (_HEIGHT, height)):
        for name in names:
            pattern = rf"({name}\s*=\s*[\"']|<{name}>\s*)\d+".encode()
            packet = re.sub(pattern, rf"\g<1>{value}".encode(), packet)
    return packet
