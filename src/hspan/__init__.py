"""Exact sparse non-local attention for image super-resolution.

The public names, loaded when they are first used: ``import hspan`` itself loads neither torch nor
any of the packages below it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hspan._version import __version__

if TYPE_CHECKING:
    from hspan import imaging, metrics
    from hspan.errors import BackendUnavailable, HspanError, InputError, UsageError, WeightsError
    from hspan.explanation import explain
    from hspan.inference import Upscaler
    from hspan.models import (
        HSPAN,
        HSPANConfig,
        HSPANLight,
        HSPANLightConfig,
        add_hspa,
        create_model,
        list_models,
        remove_hspa,
        replace_softmax,
        restore_softmax,
    )
    from hspan.modules import HSPA, NLA
    from hspan.ops import attention_support, hspa_attention, soft_threshold, softmax_attention
    from hspan.weights import load_model, save_model

_HOME = {
    "BackendUnavailable": "hspan.errors",
    "HspanError": "hspan.errors",
    "InputError": "hspan.errors",
    "UsageError": "hspan.errors",
    "WeightsError": "hspan.errors",
    "soft_threshold": "hspan.ops",
    "hspa_attention": "hspan.ops",
    "softmax_attention": "hspan.ops",
    "attention_support": "hspan.ops",
    "HSPA": "hspan.modules",
    "NLA": "hspan.modules",
    "HSPAN": "hspan.models",
    "HSPANConfig": "hspan.models",
    "HSPANLight": "hspan.models",
    "HSPANLightConfig": "hspan.models",
    "create_model": "hspan.models",
    "list_models": "hspan.models",
    "add_hspa": "hspan.models",
    "remove_hspa": "hspan.models",
    "replace_softmax": "hspan.models",
    "restore_softmax": "hspan.models",
    "load_model": "hspan.weights",
    "save_model": "hspan.weights",
    "Upscaler": "hspan.inference",
    "explain": "hspan.explanation",
}
_PACKAGES = ("imaging", "metrics")

__all__ = [
    "HSPA",
    "HSPAN",
    "NLA",
    "BackendUnavailable",
    "HSPANConfig",
    "HSPANLight",
    "HSPANLightConfig",
    "HspanError",
    "InputError",
    "Upscaler",
    "UsageError",
    "WeightsError",
    "__version__",
    "add_hspa",
    "attention_support",
    "create_model",
    "explain",
    "hspa_attention",
    "imaging",
    "list_models",
    "load_model",
    "metrics",
    "remove_hspa",
    "replace_softmax",
    "restore_softmax",
    "save_model",
    "soft_threshold",
    "softmax_attention",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if name in _PACKAGES:
        return import_module(f"hspan.{name}")
    raise AttributeError(f"module 'hspan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
