"""The non-local block (Wang, Girshick, Gupta, He, CVPR 2018), in the forms that SAN and RNAN use.

Weights of φ(x) for θ(x) and the mean of g(x) by them; then a 1×1 convolution beside an identity
skip. θ, φ and g are called query, key and value here.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from hspan.errors import UsageError
from hspan.modules.weighting import Weighting, attend, spread


class EmbeddedGaussian(nn.Module):
    """Non-local block: ``x + project(attention(x))``, in memory linear in the number of pixels.

    Args:
        channels: C of the features.
        inner: channels of query, key and value.
        pool: keys and values are the maxima of pool × pool positions; 1 leaves them alone.
        weigh_queries: each position's value is shared out among all positions, instead of each
            position taking shares of all values (RNAN).
        applications: how often a forward pass of the network applies the block.
    """

    def __init__(
        self,
        channels: int,
        inner: int,
        pool: int = 1,
        weigh_queries: bool = False,
        applications: int = 1,
    ) -> None:
        super().__init__()
        if inner < 1 or pool < 1:
            raise UsageError(f"inner and pool must be at least 1, got {inner} and {pool}")
        self.query = nn.Conv2d(channels, inner, 1)
        self.key = nn.Conv2d(channels, inner, 1)
        self.value = nn.Conv2d(channels, inner, 1)
        self.project = nn.Conv2d(inner, channels, 1)
        self.pool = pool
        self.weigh_queries = weigh_queries
        self.applications = applications
        self.weighting: Weighting = "softmax"

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W], H and W at least ``pool``, to the same shape."""
        query = self.query(x).flatten(2).transpose(1, 2)  # [B, N, inner]
        key, value = (self._pooled(embed(x)) for embed in (self.key, self.value))
        if self.weigh_queries:
            mixed = spread(query, key, value, self.weighting)
        else:
            mixed = attend(query, key, value, self.weighting, width=x.shape[-1])
        return x + self.project(mixed.transpose(1, 2).unflatten(2, x.shape[-2:]))

    def _pooled(self, embedded: Tensor) -> Tensor:
        if self.pool > 1:
            embedded = F.max_pool2d(embedded, self.pool)
        return embedded.flatten(2).transpose(1, 2)  # [B, M, inner]

    def extra_repr(self) -> str:
        """What the printed module shows."""
        return f"pool={self.pool}, weighting={self.weighting!r}"
