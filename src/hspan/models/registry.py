"""Every network by name."""

import difflib
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from torch import nn

from hspan.errors import UsageError
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
from hspan.models.rcan import RCAN, RCANConfig
from hspan.models.rdn import RDN, RDNConfig
from hspan.models.rnan import RNAN, RNANConfig
from hspan.models.san import SAN, SANConfig
from hspan.models.spmsr import SPMSR, SPMSRConfig
from hspan.models.srcnn import SRCNN, SRCNNConfig
from hspan.models.srmd import SRMD, SRMDConfig
from hspan.models.swinir import SwinIR, SwinIRConfig
from hspan.models.vdsr import VDSR, VDSRConfig


@dataclass(frozen=True)
class ModelEntry:
    """A row of the registry.

    Attributes:
        config: the network's configuration class.
        build: the network's class, called with a configuration.
        title: what the network is, in one line.
        year: of its publication.
        defaults: settings in which this name departs from the configuration's defaults.
        any_scale: one set of weights serves every scale.
        trained: False where there are no weights to load.
    """

    config: type[Any]
    build: type[nn.Module]
    title: str
    year: int
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    any_scale: bool = False
    trained: bool = True


MODELS: dict[str, ModelEntry] = {
    "hspan": ModelEntry(
        HSPANConfig, HSPAN, "High-similarity-pass attention network (the paper's)", 2024
    ),
    "hspan-s": ModelEntry(
        HSPANConfig,
        HSPAN,
        "HSPAN with one attention block, in the middle (Section IV-D)",
        2024,
        {"attention_modules": (4,)},
    ),
    "hspan-light": ModelEntry(
        HSPANLightConfig,
        HSPANLight,
        "Small network with HSPA for a laptop's processor (ours)",
        2026,
    ),
    "edsr": ModelEntry(EDSRConfig, EDSR, "Enhanced deep residual network", 2017),
    "edsr-baseline": ModelEntry(
        EDSRConfig,
        EDSR,
        "EDSR with 16 blocks of 64 channels",
        2017,
        {"channels": 64, "num_blocks": 16, "residual_scale": 1.0},
    ),
    "dbpn": ModelEntry(DBPNConfig, DBPN, "Deep back-projection network, 7 stages", 2018),
    "dbpn-ll": ModelEntry(
        DBPNConfig, DBPN, "Deep back-projection network, 10 stages", 2018, {"num_stages": 10}
    ),
    "dbpn-res-mr64-3": ModelEntry(
        DBPNConfig,
        DBPN,
        "Deep back-projection network, 7 stages run three times",
        2021,
        {"num_passes": 3},
    ),
    "rdn": ModelEntry(RDNConfig, RDN, "Residual dense network", 2018),
    "rcan": ModelEntry(RCANConfig, RCAN, "Residual channel attention network", 2018),
    "oisr-rk2-s": ModelEntry(
        OISRConfig,
        OISR,
        "ODE-inspired network, second-order Runge-Kutta, small",
        2019,
        {"method": "rk2", "channels": 64, "num_blocks": 8},
    ),
    "oisr-lf-s": ModelEntry(
        OISRConfig,
        OISR,
        "ODE-inspired network, leapfrog, small",
        2019,
        {"method": "lf", "channels": 64, "num_blocks": 8},
    ),
    "oisr-rk2-m": ModelEntry(
        OISRConfig,
        OISR,
        "ODE-inspired network, second-order Runge-Kutta, medium",
        2019,
        {"method": "rk2", "channels": 122, "num_blocks": 8},
    ),
    "oisr-lf-m": ModelEntry(
        OISRConfig,
        OISR,
        "ODE-inspired network, leapfrog, medium",
        2019,
        {"method": "lf", "channels": 122, "num_blocks": 8},
    ),
    "oisr-rk3": ModelEntry(OISRConfig, OISR, "ODE-inspired network, third-order Runge-Kutta", 2019),
    "drln": ModelEntry(DRLNConfig, DRLN, "Densely residual Laplacian network", 2022),
    "han": ModelEntry(HANConfig, HAN, "Holistic attention network", 2020),
    "swinir": ModelEntry(SwinIRConfig, SwinIR, "Windowed transformer, classical SR", 2021),
    "swinir-light": ModelEntry(
        SwinIRConfig,
        SwinIR,
        "Windowed transformer, lightweight SR",
        2021,
        {"channels": 60, "depths": (6, 6, 6, 6), "upsampler": "pixelshuffledirect"},
    ),
    "bicubic": ModelEntry(
        BicubicConfig,
        Bicubic,
        "Cubic convolution, as MATLAB's imresize",
        1981,
        any_scale=True,
        trained=False,
    ),
    "spmsr": ModelEntry(
        SPMSRConfig, SPMSR, "Prediction between sparse representations of patches", 2014
    ),
    "srcnn": ModelEntry(SRCNNConfig, SRCNN, "Three convolutions on an enlarged image", 2016),
    "fsrcnn": ModelEntry(
        FSRCNNConfig, FSRCNN, "Small convolutions at LR size and a transposed one", 2016
    ),
    "vdsr": ModelEntry(
        VDSRConfig, VDSR, "Twenty convolutions on an enlarged image", 2016, any_scale=True
    ),
    "ircnn": ModelEntry(
        IRCNNConfig, IRCNN, "Plug-and-play iteration with a denoiser", 2017, any_scale=True
    ),
    "lapsrn": ModelEntry(
        LapSRNConfig, LapSRN, "Laplacian pyramid of residuals", 2017, any_scale=True
    ),
    "memnet": ModelEntry(
        MemNetConfig, MemNet, "Memory blocks with gates (PyTorch port)", 2017, any_scale=True
    ),
    "memnet-shared": ModelEntry(
        MemNetConfig,
        MemNet,
        "MemNet with shared recursions, 677 K weights (the paper's)",
        2017,
        {"shared": True},
        any_scale=True,
    ),
    "srmd": ModelEntry(SRMDConfig, SRMD, "Network told blur and noise", 2018),
    "srmdnf": ModelEntry(
        SRMDConfig, SRMD, "SRMD for images without noise", 2018, {"noise_aware": False}
    ),
    "san": ModelEntry(SANConfig, SAN, "Second-order attention network", 2019),
    "rnan": ModelEntry(RNANConfig, RNAN, "Residual non-local attention network", 2019),
    "csnln": ModelEntry(CSNLNConfig, CSNLN, "Cross-scale non-local network", 2020),
    "ignn": ModelEntry(IGNNConfig, IGNN, "Internal graph neural network", 2020),
    "nlsn": ModelEntry(NLSNConfig, NLSN, "Non-local sparse network", 2021),
    "enlcn": ModelEntry(ENLCNConfig, ENLCN, "Efficient non-local contrastive network", 2022),
}


def list_models() -> list[str]:
    """Names that ``create_model`` knows, in the registry's order."""
    return list(MODELS)


def network_entry(name: str) -> ModelEntry:
    """The registry's row for a name.

    Raises:
        UsageError: unknown name; lists the nearest valid ones.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(MODELS)}"
        raise UsageError(f"unknown model {name!r}: {hint}")
    return MODELS[name]


def create_model(name: str, *, scale: int = 2, **config: Any) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: one of ``list_models()``.
        scale: upscaling factor.
        config: fields of the network's configuration that depart from its defaults.

    Returns:
        The network, in training mode; ``model.config`` holds its full configuration.

    Raises:
        UsageError: unknown name or field (with the nearest valid ones), or an impossible value.
    """
    entry = network_entry(name)
    known = [f.name for f in fields(entry.config)]
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise UsageError(f"{name} has no setting {key!r}: {hint}")
    return entry.build(entry.config(**{"scale": scale, **entry.defaults, **config}))


def config_dict(model: nn.Module) -> dict[str, Any]:
    """A network's configuration as plain values, for a checkpoint's metadata."""
    return asdict(model.config)  # pyright: ignore[reportArgumentType] (every network has one)


def registry_name(model: nn.Module) -> str:
    """The name under which the registry builds this network; its class's where it has none.

    Of several names for one class, the one whose settings the network's configuration has.
    """
    fitting = [
        (len(entry.defaults), name)
        for name, entry in MODELS.items()
        if entry.build is type(model)
        and all(getattr(model.config, key) == value for key, value in entry.defaults.items())
    ]
    return max(fitting)[1] if fitting else type(model).__name__
