"""What every network of the registry was published as."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A publication; its year stands in the registry.

    Attributes:
        title: as printed.
        venue: conference or journal.
    """

    title: str
    venue: str


_HSPAN = Paper("High-similarity-pass attention for single image super-resolution", "IEEE TIP")
_DBPN = Paper("Deep back-projection networks for super-resolution", "CVPR")
_EDSR = Paper("Enhanced deep residual networks for single image super-resolution", "CVPR workshops")
_MEMNET = Paper("MemNet: A persistent memory network for image restoration", "ICCV")
_OISR = Paper("ODE-inspired network design for single image super-resolution", "CVPR")
_SRMD = Paper(
    "Learning a single convolutional super-resolution network for multiple degradations", "CVPR"
)
_SWINIR = Paper("SwinIR: Image restoration using Swin transformer", "ICCV workshops")

PAPERS: dict[str, Paper] = {
    "bicubic": Paper(
        "Cubic convolution interpolation for digital image processing", "IEEE Trans. ASSP"
    ),
    "spmsr": Paper(
        "A statistical prediction model based on sparse representations for single image "
        "super-resolution",
        "IEEE TIP",
    ),
    "srcnn": Paper("Image super-resolution using deep convolutional networks", "IEEE TPAMI"),
    "fsrcnn": Paper("Accelerating the super-resolution convolutional neural network", "ECCV"),
    "vdsr": Paper("Accurate image super-resolution using very deep convolutional networks", "CVPR"),
    "ircnn": Paper("Learning deep CNN denoiser prior for image restoration", "CVPR"),
    "lapsrn": Paper(
        "Deep Laplacian pyramid networks for fast and accurate super-resolution", "CVPR"
    ),
    "memnet": _MEMNET,
    "memnet-shared": _MEMNET,
    "srmd": _SRMD,
    "srmdnf": _SRMD,
    "edsr": _EDSR,
    "edsr-baseline": _EDSR,
    "dbpn": _DBPN,
    "dbpn-ll": _DBPN,
    "dbpn-res-mr64-3": Paper(
        "Deep back-projection networks for single image super-resolution", "IEEE TPAMI"
    ),
    "rdn": Paper("Residual dense network for image super-resolution", "CVPR"),
    "rcan": Paper(
        "Image super-resolution using very deep residual channel attention networks", "ECCV"
    ),
    "rnan": Paper("Residual non-local attention networks for image restoration", "ICLR"),
    "san": Paper("Second-order attention network for single image super-resolution", "CVPR"),
    "oisr-rk2-s": _OISR,
    "oisr-lf-s": _OISR,
    "oisr-rk2-m": _OISR,
    "oisr-lf-m": _OISR,
    "oisr-rk3": _OISR,
    "ignn": Paper(
        "Cross-scale internal graph neural network for image super-resolution", "NeurIPS"
    ),
    "csnln": Paper(
        "Image super-resolution with cross-scale non-local attention and exhaustive "
        "self-exemplars mining",
        "CVPR",
    ),
    "han": Paper("Single image super-resolution via a holistic attention network", "ECCV"),
    "nlsn": Paper("Image super-resolution with non-local sparse attention", "CVPR"),
    "drln": Paper("Densely residual Laplacian super-resolution", "IEEE TPAMI"),
    "swinir": _SWINIR,
    "swinir-light": _SWINIR,
    "enlcn": Paper("Efficient non-local contrastive attention for image super-resolution", "AAAI"),
    "hspan": _HSPAN,
    "hspan-s": _HSPAN,
    "hspan-light": Paper("HSPAN-light (docs/hspan-light.md)", "this project"),
}
