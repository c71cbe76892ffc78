"""Parts of a network that need their whole precision, whatever the rest runs in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which operators on this tensor's device keep their inputs' dtype.

    The meta device, on which a network's work is counted, has no autocast to switch off.
    """
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
