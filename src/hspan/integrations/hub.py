"""Networks in repositories of the Hugging Face Hub, or in local folders of the same form.

A repository holds ``model.safetensors`` as ``save_model`` writes it (which ``load_model`` reads
without anything else), ``config.json`` for tools that look there, and a model card in
``README.md``. Needs the extra ``hub``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hspan.errors import InputError
from hspan.models import config_dict, registry_name
from hspan.weights import licence_of, load_model, provenance_of, save_model, weights_hash

try:
    _hub: Any = import_module("huggingface_hub")
except ImportError as error:
    raise ImportError(
        "hspan.integrations.hub needs huggingface_hub: pip install 'hspan[hub]'"
    ) from error

WEIGHTS = "model.safetensors"


class HubModel(nn.Module, _hub.ModelHubMixin):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """A network with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    ``HubModel.from_pretrained("user/repository")``, or a local folder, gives one in eval mode; its
    ``network`` is what ``hspan.Upscaler`` takes.

    Args:
        network: of the registry.
        licence: of the weights, by its identifier on the Hub (``apache-2.0``).
        provenance: where the weights come from, as values that JSON can hold; ``scores`` as
            ``{"Set5": {"psnr": ..., "ssim": ...}}`` become a table of the card.
    """

    def __init__(
        self,
        network: nn.Module,
        licence: str | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.licence = licence
        self.provenance = dict(provenance or {})
        self.train(network.training)

    @classmethod
    def load(cls, source: str | PathLike[str], *, scale: int | None = None) -> HubModel:
        """Take anything that ``load_model`` reads, with the licence and provenance in its file.

        Raises:
            UsageError, InputError, WeightsError: as ``load_model`` does.
        """
        network = load_model(source, scale=scale, device="cpu")
        return cls(network, licence_of(source, scale), provenance_of(source, scale))

    def forward(self, x: Tensor) -> Tensor:
        """Upscale [B, 3, H, W], RGB in [0, 1], to [B, 3, sH, sW]."""
        return self.network(x)

    def _save_pretrained(self, save_directory: Path) -> None:
        """What ``save_pretrained`` and ``push_to_hub`` call to write weights and configuration."""
        entries = dict(self.provenance)
        if self.licence:
            entries["modelspec.license"] = self.licence
        name = registry_name(self.network)
        save_model(self.network, save_directory / WEIGHTS, name=name, metadata=entries)
        content = {"library": "hspan", "model": name, **config_dict(self.network)}
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        (save_directory / "config.json").write_text(text, encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        config: object = None,
        **settings: Any,
    ) -> HubModel:
        """What ``from_pretrained`` calls; ``settings`` as for ``load_model``, as ``topk=None``.

        ``config.json``, which the mixin hands over as ``config``, isn't needed: the weights' own
        file holds the configuration, under its hash.
        """
        if Path(model_id).is_dir():
            path = Path(model_id, WEIGHTS)
            if not path.is_file():
                raise InputError(f"{model_id} holds no {WEIGHTS}; save_pretrained writes one")
        else:
            path = Path(
                _hub.hf_hub_download(
                    repo_id=model_id,
                    filename=WEIGHTS,
                    revision=revision,
                    cache_dir=cache_dir,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    token=token,
                )
            )
        network = load_model(path, device="cpu", **settings)
        return cls(network, licence_of(path), provenance_of(path))

    def generate_model_card(self, *_: Any, **__: Any) -> Any:
        """The card that ``save_pretrained`` writes beside the weights: a ``ModelCard``."""
        return _hub.ModelCard(_card(self.network, self.licence, self.provenance))


def _card(network: nn.Module, licence: str | None, provenance: Mapping[str, Any]) -> str:
    name, config = registry_name(network), config_dict(network)
    head = {
        "library_name": "hspan",
        "license": licence.lower() if licence else "unknown",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "hspan", name],
    }
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    settings = "\n".join(f"| `{key}` | `{json.dumps(value)}` |" for key, value in config.items())
    return f"""---
{front}
---

# {name} ×{config["scale"]}

Image super-resolution, ×{config["scale"]}: RGB in [0, 1] to RGB, {parameters:,} parameters. Weights
hash `{weights_hash(network)}`.

```python
import hspan
from hspan.integrations.hub import HubModel

model = HubModel.from_pretrained("USER/REPOSITORY")
large = hspan.Upscaler(model.network, scale={config["scale"]})("photo.png")
```

## Configuration

| setting | value |
|---|---|
{settings}
{_scores(provenance)}{_origin(provenance)}"""


def _scores(provenance: Mapping[str, Any]) -> str:
    scores = provenance.get("scores")
    if not isinstance(scores, Mapping) or not scores:
        return ""
    rows = "\n".join(
        f"| {data} | {score['psnr']:.2f} | {score['ssim']:.4f} |" for data, score in scores.items()
    )
    return f"\n## Scores\n\n| images | PSNR (dB) | SSIM |\n|---|---|---|\n{rows}\n"


def _origin(provenance: Mapping[str, Any]) -> str:
    rest = {k: v for k, v in provenance.items() if k != "scores"}
    if not rest:
        return ""
    return f"\n## Origin\n\n```json\n{json.dumps(rest, indent=2, sort_keys=True)}\n```\n"
