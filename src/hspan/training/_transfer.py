"""Starting from the weights of another scale, as the paper's ×3 and ×4 start from ×2.

Or of a narrower network of the same scale and depth, whose function the wider one then begins with.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hspan.errors import WeightsError
from hspan.models import config_dict
from hspan.modules import HSPA, NLA
from hspan.weights import load_model


def transfer_weights(source: str | Path, network: nn.Module) -> str:
    """Copy every tensor whose name and shape agree; leave the others as they are.

    From a network of the same class and configuration but with fewer ``channels``, everything is
    copied into the first channels. No old channel reads a new one, so that the network computes
    what the narrower one does until it is trained.

    Args:
        source: whatever ``hspan.load_model`` takes.
        network: changed in place.

    Returns:
        A sentence saying what was copied and what wasn't.

    Raises:
        WeightsError: nothing agrees.
        InputError: the file can't be read.
    """
    model = load_model(source, device="cpu")
    given, own = model.state_dict(), network.state_dict()
    if _is_narrower(model, network):
        network.load_state_dict({key: _widened(given[key], t) for key, t in own.items()})
        _silence_new_similarities(model, network)
        widths = f"{config_dict(model)['channels']} to {config_dict(network)['channels']}"
        return f"started from {source}: widened from {widths} channels, the same function"
    same = {key: t for key, t in given.items() if key in own and own[key].shape == t.shape}
    if not same:
        raise WeightsError(f"{source}: no tensor fits this network")
    network.load_state_dict(same, strict=False)
    fresh = ", ".join(key for key in own if key not in same) or "none"
    unused = ", ".join(key for key in given if key not in same) or "none"
    return (
        f"started from {source}: {len(same)} of {len(own)} tensors copied; "
        f"newly initialised: {fresh}; not used: {unused}"
    )


def _is_narrower(model: nn.Module, network: nn.Module) -> bool:
    if type(model) is not type(network):
        return False
    given, own = dict(config_dict(model)), dict(config_dict(network))
    fewer = given.pop("channels", 0) < own.pop("channels", 0)
    return fewer and given == own and model.state_dict().keys() == network.state_dict().keys()


def _widened(given: Tensor, own: Tensor) -> Tensor:
    """The fresh weights of a wider layer with a narrower one's in their first channels.

    Args:
        given: [outputs, inputs, ...] or [outputs] of the narrower layer.
        own: the same of the wider one.
    """
    if given.shape == own.shape:
        return given
    wide = own.clone()
    outputs = given.shape[0]
    wide[:outputs] = 0  # whatever comes from new channels
    wide[tuple(slice(n) for n in given.shape)] = given
    return wide


def _silence_new_similarities(model: nn.Module, network: nn.Module) -> None:
    """Make new channels of keys zero: similarities are sums over all channels."""
    for narrow, block in zip(model.modules(), network.modules(), strict=True):
        if isinstance(block, HSPA | NLA) and isinstance(narrow, HSPA | NLA):
            embed, given = block.key[0], narrow.key[0]
            assert isinstance(embed, nn.Conv2d)
            assert isinstance(given, nn.Conv2d)
            assert embed.bias is not None
            with torch.no_grad():
                embed.weight[given.out_channels :] = 0
                embed.bias[given.out_channels :] = 0
