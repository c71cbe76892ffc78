"""Making images large enough, or a multiple of something, for networks that need it."""

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F


def pad_image(x: Tensor, *, multiple: int = 1, minimum: int = 1) -> Tensor:
    """Repeat the last row and column until the size fits; the caller crops what comes out.

    Args:
        x: [B, C, H, W].
        multiple: of which height and width are to be.
        minimum: which neither is to fall short of.

    Returns:
        [B, C, H', W'] with H' ≥ H and W' ≥ W: ``x`` itself where it fits already.
    """
    height, width = x.shape[-2:]
    rows, columns = (
        (_at_least(side, minimum) + multiple - 1) // multiple * multiple - side
        for side in (height, width)
    )
    if not being_traced() and not rows and not columns:
        return x
    return F.pad(x, (0, columns, 0, rows), mode="replicate")


def crop_image(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of x [..., H, W], as many as asked for.

    In a program that is traced for any size as a gather: a view's layout would make a difference
    between sizes that need cropping and others.
    """
    if not being_traced():
        return x[..., :height, :width]
    rows = torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    return x.index_select(-2, rows).index_select(-1, columns)


def being_traced() -> bool:
    """Whether a program for any size is being made of this call, which must not depend on sizes.

    ``torch.compile`` isn't meant: it guards what it assumes of sizes, and compiles again.
    """
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # torch >= 2.7
    return exporting()


def _at_least(side: int, minimum: int) -> int:
    """The larger one; for a symbolic size of a program that is being traced, as an expression."""
    return cast(int, torch.sym_max(side, minimum)) if minimum > 1 else side
