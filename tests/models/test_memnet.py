import torch

from hspan.models import create_model


def test_sharing_saves_all_but_one_pair_of_convolutions():
    """Section 4.2: 677 K weights; with batch normalisation, biases and six block weights more."""
    with torch.device("meta"):
        shared = create_model("memnet-shared")
        own = create_model("memnet")
    weights = sum(p.numel() for p in shared.parameters() if p.ndim == 4)
    assert weights == 676_992
    assert sum(p.numel() for p in own.parameters() if p.ndim == 4) == 6 * 5 * 73_728 + weights
    assert len(shared.blocks[0].conv1) == 1
    assert len(shared.blocks[0].norm1) == 6


def test_shared_is_unshared_with_equal_weights():
    torch.manual_seed(0)
    small = {"channels": 4, "num_blocks": 2, "num_recursions": 3}
    shared = create_model("memnet-shared", **small).eval()
    own = create_model("memnet", **small).eval()
    state = {}
    for key in own.state_dict():
        parts = key.split(".")
        if parts[2:3] in (["conv1"], ["conv2"]):
            parts[3] = "0"
        state[key] = shared.state_dict()[".".join(parts)]
    own.load_state_dict(state)
    x = torch.rand(1, 3, 6, 6)
    torch.testing.assert_close(own(x), shared(x))
