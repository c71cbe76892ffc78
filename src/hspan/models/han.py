"""HAN, holistic attention network (Niu et al., ECCV 2020).

RCAN's groups, then two attentions over their outputs:

Section 3.2  LayerAttention           mixes the outputs of all groups
Section 3.3  ChannelSpatialAttention  a gate for every channel and position

The layer attention stacks the outputs with the newest first, and it mixes most of what is least
similar: the softmax is of the row's maximum minus the similarities. Both are the authors'
program's; the paper doesn't say so.
Departure: images are in [0, 1]; the authors' program works in [0, 255].
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hspan.models.rcan import RCANConfig, attention_group
from hspan.modules import ResidualBackbone
from hspan.modules.precision import without_autocast


@dataclass(frozen=True, kw_only=True)
class HANConfig(RCANConfig):
    """Section 4.1: the settings of RCAN.

    Attributes:
        scale: upscaling factor: 2, 3, 4 or 8.
        channels: C of the features.
        num_groups: residual groups in a row.
        num_blocks: residual channel attention blocks in each group.
        reduction: of the channel attention.
    """


class LayerAttention(nn.Module):
    """Add to every layer's features a mixture of all layers' features.

    ``weight`` is 0 in a fresh network, which makes the module an identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map the features of N layers, [B, N, C, H, W], to [B, N·C, H, W]."""
        # Sums of C·H·W products overflow 16 bits.
        with without_autocast(x):
            flat = x.float().flatten(2)  # [B, N, C·H·W]
            similarity = flat @ flat.transpose(1, 2)  # [B, N, N]
            attention = (similarity.amax(-1, keepdim=True) - similarity).softmax(-1)
            mixed = (self.weight * (attention @ flat)).view_as(x).to(x.dtype)
        return (mixed + x).flatten(1, 2)


class ChannelSpatialAttention(nn.Module):
    """Scale every value by a gate that its 3×3×3 neighbours in channel and place determine.

    ``weight`` is 0 in a fresh network, which makes the module an identity.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 1, 3, padding=1)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        gate = self.conv(x.unsqueeze(1)).sigmoid().squeeze(1)
        return x * (self.weight * gate) + x


class HAN(ResidualBackbone):
    """RCAN with attention over its layers.

    Args:
        config: hyper-parameters; the defaults are the paper's at ×4.
    """

    def __init__(self, config: HANConfig) -> None:
        c = config.channels
        super().__init__(
            config.scale,
            c,
            (attention_group(config) for _ in range(config.num_groups)),
            stored_mean="frozen",
        )
        self.config = config
        self.layer_attention = LayerAttention()
        self.layer_conv = nn.Conv2d((config.num_groups + 1) * c, c, 3, padding=1)
        self.channel_spatial_attention = ChannelSpatialAttention()
        self.fusion = nn.Conv2d(2 * c, c, 3, padding=1)

    def deep(self, shallow: Tensor) -> Tensor:
        """Map the head's features [B, C, H, W] to what is enlarged, of the same shape."""
        x = shallow
        layers: list[Tensor] = []
        for group in (*self.body, self.conv):
            x = group(x)
            layers.append(x)
        newest_first = torch.stack(layers[::-1], dim=1)
        mixed = self.layer_conv(self.layer_attention(newest_first))
        gated = self.channel_spatial_attention(x)
        return self.fusion(torch.cat([gated, mixed], dim=1)) + shallow
