"""HSPAN and hspan-light for spandrel, which ComfyUI, chaiNNer and others load models with.

``install()`` adds two architectures to spandrel's main registry; ``ModelLoader`` then loads

HSPAN        the authors' checkpoints (``body.0.body.N.conv_assembly.0.weight``) and ours
HSPAN-light  ours

Spandrel hands over tensors alone, without a file's metadata. What they can't tell is taken to be
the usual: exact attention, residual scale 0.1, patches of 4×4 in hspan-light. Needs spandrel, which
needs torchvision.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from hspan.models import create_model
from hspan.weights.official import recognise
from hspan.weights.official._hspan import HSPAN_LAYOUT
from hspan.weights.official._layout import upsampler_scale

Tensors = Mapping[str, Tensor]

try:
    _spandrel: Any = import_module("spandrel")
except ImportError as error:
    raise ImportError(
        "hspan.integrations.spandrel needs spandrel: pip install 'hspan[spandrel]'"
    ) from error

_HSPAN_KEY = re.compile(r"body\.(\d+)\.attention\.query\.0\.weight")
_LIGHT_KEY = re.compile(r"body\.(\d+)\.query\.0\.weight")


def install(registry: Any = None) -> list[str]:
    """Let spandrel load our networks; calling it again changes nothing.

    Args:
        registry: an ``ArchRegistry``; None is spandrel's main one, which every ``ModelLoader``
            without one of its own uses.

    Returns:
        The identifiers of the architectures that were added.
    """
    registry = _spandrel.MAIN_REGISTRY if registry is None else registry
    # Their keys are unlike all others', while some other descriptions would take them for theirs.
    others = tuple(support.architecture.id for support in registry)
    added = registry.add(
        *(
            _spandrel.ArchSupport.from_architecture(architecture, before=others)
            for architecture in (_HSPANArchitecture(), _LightArchitecture())
            if architecture.id not in registry
        )
    )
    return [support.architecture.id for support in added]


class _Described(_spandrel.Architecture):  # pyright: ignore[reportGeneralTypeIssues, reportUntypedBaseClass]
    """What both share: from tensors to one of our networks, and from it to a descriptor."""

    def __init__(self, name: str, detect: Callable[[Tensors], bool]) -> None:
        super().__init__(id=name, name=name, detect=detect)

    def _descriptor(self, network: nn.Module, tensors: Tensors) -> Any:
        config: Any = network.config
        return _spandrel.ImageModelDescriptor(
            network.eval(),
            {key: tensor.float() for key, tensor in tensors.items()},
            architecture=self,
            purpose="SR",
            tags=[f"{config.channels}nf"],
            supports_half=True,  # thresholds are computed in float32 whatever the inputs are
            supports_bfloat16=True,
            scale=config.scale,
            input_channels=3,
            output_channels=3,
        )


class _HSPANArchitecture(_Described):
    def __init__(self) -> None:
        super().__init__("HSPAN", lambda t: _is_official(t) or any(map(_HSPAN_KEY.fullmatch, t)))

    def load(self, state_dict: Tensors) -> Any:
        if _is_official(state_dict):
            config, tensors = HSPAN_LAYOUT.config(state_dict), HSPAN_LAYOUT.convert(state_dict)
        else:
            config, tensors = _hspan_config(state_dict), state_dict
        return self._descriptor(create_model("hspan", **config), tensors)


class _LightArchitecture(_Described):
    def __init__(self) -> None:
        super().__init__("HSPAN-light", lambda t: any(map(_LIGHT_KEY.fullmatch, t)))

    def load(self, state_dict: Tensors) -> Any:
        return self._descriptor(
            create_model("hspan-light", **_light_config(state_dict)), state_dict
        )


def _is_official(tensors: Tensors) -> bool:
    return recognise(tensors) is HSPAN_LAYOUT


def _hspan_config(tensors: Tensors) -> dict[str, Any]:
    channels = tensors["head.weight"].shape[0]
    modules = _numbers(tensors, r"body\.(\d+)\.conv\.weight")
    attending = _numbers(tensors, _HSPAN_KEY.pattern)
    query = tensors[f"body.{attending[0]}.attention.query.0.weight"]
    return {
        "scale": upsampler_scale("HSPAN", tensors, "upsampler"),
        "channels": channels,
        "num_modules": len(modules),
        "num_blocks": len(_numbers(tensors, r"body\.\d+\.leb\.(\d+)\.conv1\.weight")),
        "attention_modules": None if attending == modules else attending,
        "reduction": channels // query.shape[0],
        "topk": None,
    }


def _light_config(tensors: Tensors) -> dict[str, Any]:
    channels = tensors["head.weight"].shape[0]
    attending = _numbers(tensors, _LIGHT_KEY.pattern)
    query = tensors[f"body.{attending[0]}.query.0.weight"]
    blocks = len(_numbers(tensors, r"body\.(\d+)\.conv1\.weight"))
    # Before the n-th attention stand as many parts as its number says, n of which are attentions.
    after = tuple(place - n for n, place in enumerate(attending))
    return {
        "scale": math.isqrt(tensors["tail.weight"].shape[0] // 3),
        "channels": channels,
        "num_blocks": blocks,
        "attention_after": None if after == (blocks // 2,) else after,
        "reduction": channels // query.shape[0],
    }


def _numbers(tensors: Tensors, pattern: str) -> tuple[int, ...]:
    """The distinct numbers in keys of this pattern, ascending."""
    found = {int(match[1]) for key in tensors if (match := re.fullmatch(pattern, key))}
    return tuple(sorted(found))
