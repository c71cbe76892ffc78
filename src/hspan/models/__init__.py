"""Networks, one file each, and the registry that builds them by name."""

from hspan.models.bicubic import Bicubic, BicubicConfig
from hspan.models.csnln import CSNLN, CSNLNConfig
from hspan.models.dbpn import DBPN, DBPNConfig
from hspan.models.drln import DRLN, DRLNConfig
from hspan.models.edsr import EDSR, EDSRConfig
from hspan.models.enlcn import ENLCN, ENLCNConfig
from hspan.models.fsrcnn import FSRCNN, FSRCNNConfig
from hspan.models.han import HAN, HANConfig
from hspan.models.hspan import HSPAN, HSPANConfig
from hspan.models.hspan_light import HSPANLight, HSPANLightConfig
from hspan.models.ignn import IGNN, IGNNConfig
from hspan.models.ircnn import IRCNN, IRCNNConfig
from hspan.models.lapsrn import LapSRN, LapSRNConfig
from hspan.models.memnet import MemNet, MemNetConfig
from hspan.models.nlsn import NLSN, NLSNConfig
from hspan.models.oisr import OISR, OISRConfig
from hspan.models.papers import PAPERS, Paper
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
from hspan.models.rnan import RNAN, RNANConfig
from hspan.models.san import SAN, SANConfig
from hspan.models.spmsr import SPMSR, SPMSRConfig
from hspan.models.srcnn import SRCNN, SRCNNConfig
from hspan.models.srmd import SRMD, SRMDConfig, degradation_code, gaussian_kernel, kernel_basis
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
from hspan.models.vdsr import VDSR, VDSRConfig

__all__ = [
    "CSNLN",
    "DBPN",
    "DRLN",
    "EDSR",
    "ENLCN",
    "FSRCNN",
    "HAN",
    "HSPAN",
    "IGNN",
    "IRCNN",
    "MODELS",
    "NLSN",
    "OISR",
    "PAPERS",
    "RCAN",
    "RDN",
    "RNAN",
    "SAN",
    "SPMSR",
    "SRCNN",
    "SRMD",
    "VDSR",
    "Bicubic",
    "BicubicConfig",
    "CSNLNConfig",
    "DBPNConfig",
    "DRLNConfig",
    "EDSRConfig",
    "ENLCNConfig",
    "FSRCNNConfig",
    "HANConfig",
    "HSPANConfig",
    "HSPANLight",
    "HSPANLightConfig",
    "HSPAReport",
    "IGNNConfig",
    "IRCNNConfig",
    "Insertion",
    "LapSRN",
    "LapSRNConfig",
    "MemNet",
    "MemNetConfig",
    "ModelEntry",
    "NLSNConfig",
    "OISRConfig",
    "Paper",
    "RCANConfig",
    "RDNConfig",
    "RNANConfig",
    "Replacement",
    "SANConfig",
    "SPMSRConfig",
    "SRCNNConfig",
    "SRMDConfig",
    "SwinIR",
    "SwinIRConfig",
    "VDSRConfig",
    "WeightingReport",
    "add_hspa",
    "changes",
    "config_dict",
    "create_model",
    "degradation_code",
    "gaussian_kernel",
    "kernel_basis",
    "list_models",
    "network_entry",
    "registry_name",
    "remove_hspa",
    "repeat_changes",
    "replace_softmax",
    "restore_softmax",
]
