"""PSNR and SSIM under the protocol of the super-resolution benchmarks."""

from hspan.metrics._psnr import psnr
from hspan.metrics._ssim import ssim

__all__ = ["psnr", "ssim"]
