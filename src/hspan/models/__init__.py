"""Networks, one file each, and the registry that builds them by name."""

from hspan.models.enlcn import ENLCN, ENLCNConfig
from hspan.models.hspan import HSPAN, HSPANConfig
from hspan.models.hspan_light import HSPANLight, HSPANLightConfig
from hspan.models.nlsn import NLSN, NLSNConfig
from hspan.models.registry import (
    MODELS,
    ModelEntry,
    config_dict,
    create_model,
    list_models,
    network_entry,
)
from hspan.models.rnan import RNAN, RNANConfig
from hspan.models.san import SAN, SANConfig

__all__ = [
    "ENLCN",
    "HSPAN",
    "MODELS",
    "NLSN",
    "RNAN",
    "SAN",
    "ENLCNConfig",
    "HSPANConfig",
    "HSPANLight",
    "HSPANLightConfig",
    "ModelEntry",
    "NLSNConfig",
    "RNANConfig",
    "SANConfig",
    "config_dict",
    "create_model",
    "list_models",
    "network_entry",
]
