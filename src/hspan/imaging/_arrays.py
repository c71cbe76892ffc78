"""What counts as an image in memory, and the one layout that the filters work in.

Arrays are H×W or H×W×C; tensors are [..., H, W]. Inside, both are planar: [..., H, W].
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from hspan.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import TypeIs

_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")


def is_tensor(image: Any) -> TypeIs[Tensor]:
    """Whether this is a torch tensor, without importing torch for those who have none."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def check_image(image: Any) -> None:
    """Refuse what isn't an image.

    Raises:
        InputError: not an array or tensor, wrong number of dimensions, empty, or of a dtype other
            than uint8, uint16 and floating point.
    """
    if is_tensor(image):
        if image.ndim < 2:
            raise InputError(
                f"an image tensor is [..., height, width], got shape {list(image.shape)}"
            )
        name = str(image.dtype).removeprefix("torch.")
        known = name in (*_DTYPES, "bfloat16")
    elif isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise InputError(
                f"an image array is height×width or height×width×channels, got shape {image.shape}"
            )
        name = image.dtype.name
        known = name in _DTYPES
    else:
        raise InputError(f"an image is a NumPy array or a tensor, got {type(image).__name__}")
    if 0 in image.shape:
        raise InputError(f"the image is empty: its shape is {tuple(image.shape)}")
    if not known:
        raise InputError(f"an image is uint8, uint16 or floating point, got {name}: convert it")


def spatial_size(image: np.ndarray | Tensor) -> tuple[int, int]:
    """Height and width."""
    if is_tensor(image):
        return int(image.shape[-2]), int(image.shape[-1])
    return int(image.shape[0]), int(image.shape[1])


def to_planar(image: np.ndarray) -> np.ndarray:
    """H×W or H×W×C to a view [H, W] or [C, H, W]."""
    return image if image.ndim == 2 else np.moveaxis(image, 2, 0)


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Round an image to 8 bits.

    Args:
        pixels: uint8 (returned as it is), uint16, or floating with 1.0 as white, clipped to [0, 1].
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return np.rint(pixels / 257).astype(np.uint8)
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
