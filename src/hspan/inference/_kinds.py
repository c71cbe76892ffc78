"""What can be upscaled in memory: arrays, tensors, Pillow images, Pictures; to planes and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hspan.errors import InputError
from hspan.imaging import Picture
from hspan.inference._assembly import Planes

if TYPE_CHECKING:
    from PIL.Image import Image

Opened = tuple[list[Planes], Callable[[list[Planes]], Any]]
"""The images of a batch, and how to make the caller's kind of their results."""

_SHAPES = "height×width, or height×width×channels with 1 to 4 channels"


def open_image(image: object) -> Opened:
    """Take an image apart.

    Raises:
        InputError: of no known kind, shape or dtype, or empty.
    """
    if isinstance(image, Picture):
        if image.pages > 1:
            raise InputError("upscale the pages of a picture one by one, or with upscale_picture")
        return [Planes(image.pixels, image.alpha)], lambda results: image.enlarged(
            results[0].pixels, results[0].alpha
        )
    if isinstance(image, np.ndarray):
        flat = image.ndim == 2
        return [_split(image)], lambda results: _join(results[0], flat=flat)
    if isinstance(image, Tensor):
        return _open_tensor(image)
    from PIL.Image import Image  # Pillow takes a while to load

    if isinstance(image, Image):
        return _open_pillow(image)
    raise InputError(
        "an image is a path, a Pillow image, a NumPy array, a tensor or a Picture, "
        f"got {type(image).__name__}"
    )


def _split(array: np.ndarray) -> Planes:
    """Separate alpha: the last of two or four channels."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        raise InputError(f"an image array is {_SHAPES}, got {array.shape}")
    if 0 in array.shape:
        raise InputError(f"the image is empty: its shape is {array.shape}")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype.name not in ("uint8", "uint16") and array.dtype.kind != "f":
        raise InputError(
            f"an image array is uint8, uint16 or floating in [0, 1], got {array.dtype}: convert it"
        )
    if array.shape[2] in (2, 4):
        return Planes(array[:, :, :-1], array[:, :, -1])
    return Planes(array)


def _join(planes: Planes, *, flat: bool) -> np.ndarray:
    if planes.alpha is not None:
        return np.concatenate([planes.pixels, planes.alpha[:, :, None]], axis=2)
    return planes.pixels[:, :, 0] if flat and planes.pixels.shape[2] == 1 else planes.pixels


def _open_tensor(tensor: Tensor) -> Opened:
    if tensor.ndim not in (3, 4) or not 1 <= tensor.shape[-3] <= 4:
        raise InputError(
            "an image tensor is [C, H, W] or [B, C, H, W] with C from 1 to 4, "
            f"got {list(tensor.shape)}"
        )
    if not tensor.is_floating_point() and tensor.dtype != torch.uint8:
        raise InputError(f"an image tensor is floating in [0, 1] or uint8, got {tensor.dtype}")
    if tensor.numel() == 0:
        raise InputError(f"the image is empty: its shape is {list(tensor.shape)}")
    batch = (tensor if tensor.ndim == 4 else tensor[None]).detach().cpu()
    if batch.is_floating_point():
        batch = batch.float()
    arrays = batch.permute(0, 2, 3, 1).numpy()

    def close(results: list[Planes]) -> Tensor:
        images = [torch.from_numpy(np.asarray(_join(r, flat=False))) for r in results]
        grown = torch.stack(images).permute(0, 3, 1, 2)  # [B, C, sH, sW]
        grown = grown.to(tensor.device, tensor.dtype, memory_format=torch.contiguous_format)
        return grown if tensor.ndim == 4 else grown[0]

    return [_split(array) for array in arrays], close


# Pillow's other modes are converted: what they can't say (palettes, inks) the result can't keep.
_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "F")


def _open_pillow(image: Image) -> Opened:
    from PIL import Image as pillow  # noqa: N813 (a module named like its class)

    if image.mode in ("1", "I"):
        usual = image.convert("L" if image.mode == "1" else "I;16")
    elif image.mode in _MODES:
        usual = image
    else:
        usual = image.convert("RGBA" if image.has_transparency_data else "RGB")
    kept = {key: image.info[key] for key in ("icc_profile", "exif", "dpi") if key in image.info}
    if usual.mode != image.mode and image.mode == "CMYK":
        kept.pop("icc_profile", None)  # it describes inks

    def close(results: list[Planes]) -> Image:
        grown = pillow.fromarray(np.ascontiguousarray(_join(results[0], flat=True)))
        grown.info.update(kept)
        if "dpi" in kept:  # more pixels on the same print
            grown.info["dpi"] = tuple(value * grown.width / image.width for value in kept["dpi"])
        return grown

    return [_split(np.asarray(usual))], close
