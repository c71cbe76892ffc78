"""One network, ready to be run on images of any size."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from hspan.evaluation.bench_models._settings import ModelSettings
from hspan.hardware import DTYPES
from hspan.models import create_model, registry_name
from hspan.weights import load_model


class Competitor:
    """A network in eval mode on its device.

    Args:
        model: a name in the registry, or a file.
        settings: scale, precision and seed.
        device: where it runs.

    Raises:
        UsageError: the network, or the file, has no such scale.
        WeightsError: the file holds no such weights.
        InputError: it can't be read.
    """

    def __init__(self, model: str, settings: ModelSettings, device: torch.device) -> None:
        self.weights = "random"
        if Path(model).is_file():
            network = load_model(model, scale=settings.scale, device="cpu")
            self.weights = Path(model).name
        else:
            torch.manual_seed(settings.seed)
            network = create_model(model, scale=settings.scale)
        self.network: nn.Module = network.eval().to(device)
        self.name = registry_name(network)
        self._device = device
        self._dtype = DTYPES[settings.precision] if settings.precision != "fp32" else None
        self._seed = settings.seed

    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.network.parameters() if p.requires_grad)

    def on(self, height: int, width: int) -> Callable[[], Tensor]:
        """The work of upscaling one image of this size, which is the same in every process."""
        generator = torch.Generator().manual_seed(self._seed)
        image = torch.rand(1, 3, height, width, generator=generator).to(self._device)
        return lambda: self._run(image)

    @torch.inference_mode()
    def _run(self, image: Tensor) -> Tensor:
        lower = self._dtype is not None
        with torch.autocast(self._device.type, self._dtype, enabled=lower):
            output = self.network(image)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return output
