"""Making images large enough, or a multiple of something, for networks that need it."""

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
        -(-max(side, minimum) // multiple) * multiple - side for side in (height, width)
    )
    if not rows and not columns:
        return x
    return F.pad(x, (0, columns, 0, rows), mode="replicate")
