"""Starting from the weights of another scale, as the paper's ×3 and ×4 start from ×2."""

from pathlib import Path

from torch import nn

from hspan.errors import WeightsError
from hspan.weights import load_model


def transfer_weights(source: str | Path, network: nn.Module) -> str:
    """Copy every tensor whose name and shape agree; leave the others as they are.

    Args:
        source: whatever ``hspan.load_model`` takes.
        network: changed in place.

    Returns:
        A sentence saying what was copied and what wasn't.

    Raises:
        WeightsError: nothing agrees.
        InputError: the file can't be read.
    """
    given = load_model(source, device="cpu").state_dict()
    own = network.state_dict()
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
