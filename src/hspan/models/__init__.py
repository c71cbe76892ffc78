"""Networks, one file each, and the registry that builds them by name."""

from hspan.models.hspan import HSPAN, HSPANConfig
from hspan.models.hspan_light import HSPANLight, HSPANLightConfig
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

__all__ = [
    "HSPAN",
    "MODELS",
    "HSPANConfig",
    "HSPANLight",
    "HSPANLightConfig",
    "HSPAReport",
    "Insertion",
    "ModelEntry",
    "Replacement",
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
