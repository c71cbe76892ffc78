"""Channel attention by covariance (SAN: Dai, Cai, Zhang, Xia, Zhang, CVPR 2019).

_covariance           of the channels over the image
_square_root          of that, by Newton-Schulz iteration between two normalisations
SecondOrderAttention  the gate: a mean over each row of the root, two layers, a sigmoid
"""

import torch
from torch import Tensor

from hspan.modules.channel_attention import ChannelAttention
from hspan.modules.precision import without_autocast

_STEPS = 5  # of the Newton-Schulz iteration
_LARGEST = 1000  # rows and columns in the middle that the covariance is taken of (code)


class SecondOrderAttention(ChannelAttention):
    """Scale every channel by a weight in (0, 1) that all channels' covariances determine.

    Args:
        channels: C of the features.
        reduction: C / reduction channels between the two layers.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        # In float32 at least: under autocast the products of the iteration would lose the root.
        with without_autocast(x):
            root = _square_root(_covariance(x.to(torch.promote_types(x.dtype, torch.float32))))
        statistic = root.mean(dim=1)[..., None, None].to(x.dtype)  # [B, C, 1, 1]
        return x * self.expand(self.reduce(statistic).relu()).sigmoid()


def _covariance(x: Tensor) -> Tensor:
    """Covariance of the channels of [B, C, H, W] over the middle of the image: [B, C, C]."""
    for dim in (2, 3):
        size = x.shape[dim]
        if size > _LARGEST:
            x = x.narrow(dim, (size - _LARGEST) // 2, _LARGEST)
    rows = x.flatten(2)
    rows = rows - rows.mean(dim=2, keepdim=True)
    return rows @ rows.transpose(1, 2) / rows.shape[2]


def _square_root(matrix: Tensor) -> Tensor:
    """Square root of symmetric positive [B, C, C], as far as the iteration gets."""
    trace = matrix.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
    trace = trace.clamp_min(torch.finfo(trace.dtype).tiny)  # constant features: their root is 0
    identity = 3 * torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    root = matrix / trace
    step = (identity - root) / 2
    root, inverse = root @ step, step
    for _ in range(_STEPS - 2):
        step = (identity - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    return root @ (identity - inverse @ root) / 2 * trace.sqrt()
