"""Colour images through networks of one channel.

Such networks upscale luma (Y of YCbCr, BT.601) alone, and colour differences are enlarged by
bicubic interpolation. Enlargement is linear and its weights sum to one, so it commutes with the
change of colour space: instead of Cb and Cr, the enlarged RGB image is kept and its luma moved.
Moving Y by d at constant Cb and Cr moves R, G and B by 255/219·d each.
"""

from torch import Tensor

from hspan.imaging import rgb_to_y

_SWING = 255 / 219  # of R, G, B for one of Y, whose white lies 219 of 255 above its black


def luma(image: Tensor) -> Tensor:
    """Y of an image.

    Args:
        image: [B, 3, H, W], RGB in [0, 1].

    Returns:
        [B, 1, H, W]: 16/255 for black, 235/255 for white.
    """
    return rgb_to_y(image).unsqueeze(1)


def move_luma(image: Tensor, change: Tensor) -> Tensor:
    """Add to an image's Y and leave its Cb and Cr as they are.

    Args:
        image: [B, 3, H, W], RGB in [0, 1].
        change: [B, 1, H, W], of Y.

    Returns:
        [B, 3, H, W], in the dtype of the image: under autocast a change may be bf16, an image not.
    """
    return image + _SWING * change.to(image.dtype)


def replace_luma(image: Tensor, y: Tensor) -> Tensor:
    """Give an image another Y; arguments and result as for ``luma`` and ``move_luma``."""
    return move_luma(image, y.to(image.dtype) - luma(image))
