"""Checkpoints of the authors' own programs: recognised by their keys, renamed to ours.

One file for each family of programs, which says how to recognise its checkpoint, which settings
the tensors tell, and what each tensor is called here. Networks here compute in [0, 1]; those that
were trained in [0, 255] get their first and last convolutions rescaled.
"""

from collections.abc import Mapping

from torch import Tensor

from hspan.weights.official._csnln import CSNLN_LAYOUT
from hspan.weights.official._dbpn import DBPN_LAYOUT
from hspan.weights.official._drln import DRLN_LAYOUT
from hspan.weights.official._edsr import EDSR_LAYOUT
from hspan.weights.official._fsrcnn import FSRCNN_MATLAB, FSRCNN_PORT
from hspan.weights.official._hspan import HSPAN_LAYOUT
from hspan.weights.official._ignn import IGNN_LAYOUT
from hspan.weights.official._ircnn import IRCNN_LAYOUT
from hspan.weights.official._lapsrn import LAPSRN_MATLAB, LAPSRN_PORT
from hspan.weights.official._layout import OfficialLayout
from hspan.weights.official._memnet import MEMNET_LAYOUT
from hspan.weights.official._nlsn import ENLCN_LAYOUT, NLSN_LAYOUT
from hspan.weights.official._oisr import OISR_LAYOUT
from hspan.weights.official._rcan import HAN_LAYOUT, RCAN_LAYOUT
from hspan.weights.official._rdn import RDN_LAYOUT
from hspan.weights.official._rnan import RNAN_LAYOUT
from hspan.weights.official._san import SAN_LAYOUT
from hspan.weights.official._srcnn import SRCNN_MATLAB, SRCNN_PORT
from hspan.weights.official._srmd import SRMD_LAYOUT
from hspan.weights.official._swinir import SWINIR_LAYOUT
from hspan.weights.official._vdsr import VDSR_MATLAB, VDSR_PORT

OFFICIAL: tuple[OfficialLayout, ...] = (
    HSPAN_LAYOUT,
    SRCNN_MATLAB,
    SRCNN_PORT,
    FSRCNN_MATLAB,
    FSRCNN_PORT,
    VDSR_MATLAB,
    VDSR_PORT,
    IRCNN_LAYOUT,
    LAPSRN_MATLAB,
    LAPSRN_PORT,
    MEMNET_LAYOUT,
    SRMD_LAYOUT,
    NLSN_LAYOUT,
    ENLCN_LAYOUT,
    SAN_LAYOUT,
    RNAN_LAYOUT,
    EDSR_LAYOUT,
    DBPN_LAYOUT,
    RDN_LAYOUT,
    RCAN_LAYOUT,
    OISR_LAYOUT,
    DRLN_LAYOUT,
    HAN_LAYOUT,
    SWINIR_LAYOUT,
    CSNLN_LAYOUT,
    IGNN_LAYOUT,
)


def recognise(tensors: Mapping[str, Tensor]) -> OfficialLayout | None:
    """The program that stored these tensors; None when their names are of no known one."""
    return next((layout for layout in OFFICIAL if layout.matches(tensors)), None)


__all__ = ["OFFICIAL", "OfficialLayout", "recognise"]
