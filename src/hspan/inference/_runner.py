"""One window through the network: grey and alpha as RGB, mixed precision, a second try in fp32."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hspan.errors import InputError
from hspan.hardware import Precision
from hspan.inference.ensemble import self_ensemble
from hspan.inference.planning import in_precision


class Runner:
    """The network as a function of image planes on the processor.

    Args:
        model: [1, 3, h, w] → [1, 3, s·h, s·w], in eval mode.
        scale: s.
        device: where the weights are.
        precision: in which the network runs.
        ensemble: average over the 8 flips and rotations.
    """

    def __init__(
        self,
        model: nn.Module,
        scale: int,
        device: torch.device,
        precision: Precision,
        ensemble: bool,
    ) -> None:
        self.scale = scale
        self.repeated = 0  # windows that overflowed and were computed again in fp32
        self._device = device
        self._precision = precision
        first, second = (in_precision(model, device, p) for p in (precision, "fp32"))
        self._network = self_ensemble(first) if ensemble else first
        self._exact = self_ensemble(second) if ensemble else second

    @torch.inference_mode()
    def __call__(self, planes: Tensor) -> Tensor:
        """Upscale planes [K, h, w], K of 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).

        Returns:
            [K, s·h, s·w] float32. Grey and alpha go through the network as grey images, and the
            mean of their three channels comes back; constant alpha stays as it is.

        Raises:
            InputError: the result isn't finite even in fp32.
        """
        colours = planes.shape[0] - 1 + planes.shape[0] % 2  # 1, 1, 3, 3
        result = self._image(planes[:colours])
        if colours == planes.shape[0]:
            return result
        alpha = planes[colours:]
        if bool((alpha == alpha[0, 0, 0]).all()):
            grown = alpha[0, 0, 0].expand(1, *result.shape[1:])
        else:
            grown = self._image(alpha)
        return torch.cat([result, grown])

    def _image(self, planes: Tensor) -> Tensor:
        image = planes.expand(1, 3, -1, -1).to(self._device)
        result = self._network(image).float()
        if self._precision != "fp32" and not bool(result.isfinite().all()):
            self.repeated += 1
            result = self._exact(image).float()
        if not bool(result.isfinite().all()):
            raise InputError(
                "the network's result isn't finite even in fp32: its weights are damaged or of "
                "another network"
            )
        expected = (1, 3, planes.shape[1] * self.scale, planes.shape[2] * self.scale)
        if result.shape != expected:
            raise InputError(
                f"the network returned {tuple(result.shape)}, not {expected}: is its scale "
                f"{self.scale}?"
            )
        result = result[0].cpu()
        return result.mean(0, keepdim=True) if planes.shape[0] == 1 else result
