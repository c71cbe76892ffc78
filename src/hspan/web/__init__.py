"""A page for everybody: drop an image, compare, download, ask a pixel where it came from.

Gradio is loaded when a server starts, not before.
"""

from hspan.web._limits import Limits
from hspan.web._serve import LOOPBACK, check_installed, served
from hspan.web._service import Service, Upscaled
from hspan.web._workspace import Workspace

__all__ = [
    "LOOPBACK",
    "Limits",
    "Service",
    "Upscaled",
    "Workspace",
    "check_installed",
    "served",
]
