"""Networks, one file each, and the registry that builds them by name."""

from hspan.models.dbpn import DBPN, DBPNConfig
from hspan.models.drln import DRLN, DRLNConfig
from hspan.models.edsr import EDSR, EDSRConfig
from hspan.models.han import HAN, HANConfig
from hspan.models.hspan import HSPAN, HSPANConfig
from hspan.models.hspan_light import HSPANLight, HSPANLightConfig
from hspan.models.oisr import OISR, OISRConfig
from hspan.models.rcan import RCAN, RCANConfig
from hspan.models.rdn import RDN, RDNConfig
from hspan.models.registry import (
    MODELS,
    ModelEntry,
    config_dict,
    create_model,
    list_models,
    network_entry,
    registry_name,
)
from hspan.models.surgery import (
    HSPAReport,
    Insertion,
    Replacement,
    WeightingReport,
    add_hspa,
    changes,
    remove_hspa,
    repeat_changes,
    replace_softmax,
    restore_softmax,
)
from hspan.models.swinir import SwinIR, SwinIRConfig

__all__ = [
    "DBPN",
    "DRLN",
    "EDSR",
    "HAN",
    "HSPAN",
    "MODELS",
    "OISR",
    "RCAN",
    "RDN",
    "DBPNConfig",
    "DRLNConfig",
    "EDSRConfig",
    "HANConfig",
    "HSPANConfig",
    "HSPANLight",
    "HSPANLightConfig",
    "HSPAReport",
    "Insertion",
    "ModelEntry",
    "OISRConfig",
    "RCANConfig",
    "RDNConfig",
    "Replacement",
    "SwinIR",
    "SwinIRConfig",
    "WeightingReport",
    "add_hspa",
    "changes",
    "config_dict",
    "create_model",
    "list_models",
    "network_entry",
    "registry_name",
    "remove_hspa",
    "repeat_changes",
    "replace_softmax",
    "restore_softmax",
]
