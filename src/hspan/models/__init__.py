"""Networks, one file each, and the registry that builds them by name."""

from hspan.models.bicubic import Bicubic, BicubicConfig
from hspan.models.fsrcnn import FSRCNN, FSRCNNConfig
from hspan.models.hspan import HSPAN, HSPANConfig
from hspan.models.hspan_light import HSPANLight, HSPANLightConfig
from hspan.models.ircnn import IRCNN, IRCNNConfig
from hspan.models.lapsrn import LapSRN, LapSRNConfig
from hspan.models.memnet import MemNet, MemNetConfig
from hspan.models.registry import (
    MODELS,
    ModelEntry,
    config_dict,
    create_model,
    list_models,
    network_entry,
)
from hspan.models.spmsr import SPMSR, SPMSRConfig
from hspan.models.srcnn import SRCNN, SRCNNConfig
from hspan.models.srmd import SRMD, SRMDConfig, degradation_code, gaussian_kernel, kernel_basis
from hspan.models.vdsr import VDSR, VDSRConfig

__all__ = [
    "FSRCNN",
    "HSPAN",
    "IRCNN",
    "MODELS",
    "SPMSR",
    "SRCNN",
    "SRMD",
    "VDSR",
    "Bicubic",
    "BicubicConfig",
    "FSRCNNConfig",
    "HSPANConfig",
    "HSPANLight",
    "HSPANLightConfig",
    "IRCNNConfig",
    "LapSRN",
    "LapSRNConfig",
    "MemNet",
    "MemNetConfig",
    "ModelEntry",
    "SPMSRConfig",
    "SRCNNConfig",
    "SRMDConfig",
    "VDSRConfig",
    "config_dict",
    "create_model",
    "degradation_code",
    "gaussian_kernel",
    "kernel_basis",
    "list_models",
    "network_entry",
]
