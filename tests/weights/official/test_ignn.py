"""Official IGNN checkpoints compute what the released program computes.

Every patch is written out at full size, and distances to all patches of the smaller image.
"""

import pytest
import torch
from torch.nn import functional as F

from hspan.imaging import imresize
from hspan.weights import load_model

CHANNELS, BLOCKS, NEIGHBOURS = 8, 3, 5
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def build(program, scale, value_range=255):
    step = 3 if scale == 3 else 2
    program.add_shifts(value_range)
    for stem in ("vggnet", "graph.embedcnn"):
        program.weights[f"{stem}.sub_mean.weight"] = torch.diag(1 / DEVIATION[:, 0, 0])
        program.weights[f"{stem}.sub_mean.bias"] = -(MEAN / DEVIATION)[:, 0, 0]
    for layer, inputs in ((0, 3), (2, 64)):
        program.add(f"vggnet.model.{layer}", inputs, 64)
        for part in ("weight", "bias"):
            stored = program.weights[f"vggnet.model.{layer}.{part}"]
            program.weights[f"graph.embedcnn.model.{layer}.{part}"] = stored
    program.add("head.0", 3, CHANNELS)
    for half, count in (("body1", BLOCKS // 2), ("body2", BLOCKS - BLOCKS // 2)):
        for b in range(count):
            program.add(f"{half}.{b}.body.0", CHANNELS, CHANNELS)
            program.add(f"{half}.{b}.body.2", CHANNELS, CHANNELS)
    program.add(f"body2.{BLOCKS - BLOCKS // 2}.0", CHANNELS, CHANNELS)
    for layer, side in ((0, 5), (1, 3), (2, 3)):
        program.add(f"gcn.knn_downsample.{layer}.0", CHANNELS, CHANNELS, side)
    for name in ("lr", "hr"):
        stem = f"gcn.weightnet_{name}"
        for key, outputs in (("0.0", 64), ("1.body.0", 64), ("1.body.2", 64), ("2.0", 1)):
            program.add(f"{stem}.{key}", 64, outputs, 1)
    for name in ("fuse_b", "fuse_up"):
        program.add(f"{name}.0.0", 2 * CHANNELS, CHANNELS)
        program.add(f"{name}.1.0", CHANNELS, CHANNELS)
    program.add_upsampler("upsample", step, CHANNELS)
    if scale == 4:
        program.add_upsampler("tail.0", 2, CHANNELS)
    program.add(f"tail.{int(scale == 4)}.0", CHANNELS, 3)
    return program.weights


def patches(x):
    """[B, patches, C, 9] of 3×3 at stride 2; a row or column of zeros where one is missing."""
    rows, columns = ((side - 1) % 2 for side in x.shape[2:])
    cut = F.unfold(F.pad(x, (0, columns, 0, rows)), 3, stride=2)
    return cut.unflatten(1, (x.shape[1], 9)).permute(0, 3, 1, 2)


def laid_out(cut, size, s):
    """[B, patches, C, 9s²] back to [B, C, s·H, s·W], where they overlap their mean."""
    rows, columns = (s * (side + (side - 1) % 2) for side in size)
    flat = cut.flatten(2).transpose(1, 2)
    total = F.fold(flat, (rows, columns), 3 * s, stride=2 * s)
    count = F.fold(torch.ones_like(flat), (rows, columns), 3 * s, stride=2 * s)
    return (total / count)[..., : s * size[0], : s * size[1]]


def block(program, stem, x):
    return x + 0.1 * program.conv(f"{stem}.2", F.relu(program.conv(f"{stem}.0", x)))


def edge_weight(program, stem, x):
    hidden = block(program, f"{stem}.1.body", program.conv(f"{stem}.0.0", x))
    return program.conv(f"{stem}.2.0", hidden)


def compared(program, x):
    x = F.relu(program.conv("vggnet.model.0", (x - MEAN) / DEVIATION))
    return F.relu(program.conv("vggnet.model.2", x))


def exchanged(program, image, x, s):
    """Neighbours at low and at full resolution."""
    size = image.shape[2:]
    height, width = (side - side % s for side in size)
    smaller = imresize(image[..., :height, :width], 1 / s).clamp(0, 1)
    query, key = (patches(compared(program, i)) for i in (image, smaller))
    distances = torch.cdist(query.flatten(2).double(), key.flatten(2).double())
    index = distances.argsort(dim=2)[..., :NEIGHBOURS]
    source = patches(F.pixel_unshuffle(x[..., :height, :width], s))
    own = patches(x)
    lows, highs, low_scores, high_scores = [], [], [], []
    for i in range(NEIGHBOURS):
        chosen = [k[j] for k, j in zip(key, index[..., i], strict=True)]
        difference = (query - torch.stack(chosen)).abs().sum(dim=3, keepdim=True)
        difference = laid_out(difference.expand(-1, -1, -1, 9 * s * s), size, s)
        found = torch.stack([v[j] for v, j in zip(source, index[..., i], strict=True)])
        found = found.unflatten(2, (CHANNELS, s * s)).flatten(3)  # all values of a channel
        found = (found - found.mean(3, keepdim=True)) / (found.var(3, keepdim=True) + 1e-5).sqrt()
        found = found * (own.var(3, keepdim=True) + 1e-5).sqrt() + own.mean(3, keepdim=True)
        found = found.unflatten(3, (s, s, 3, 3)).permute(0, 1, 2, 5, 3, 6, 4).flatten(3)
        high = laid_out(found, size, s)
        low = program.conv("gcn.knn_downsample.0.0", high, stride=s, padding=2)
        low = program.conv("gcn.knn_downsample.1.0", F.relu(low))
        lows.append(program.conv("gcn.knn_downsample.2.0", F.relu(low)))
        highs.append(high)
        pooled = F.avg_pool2d(difference, s)
        low_scores.append(edge_weight(program, "gcn.weightnet_lr", pooled))
        high_scores.append(edge_weight(program, "gcn.weightnet_hr", difference))
    low = (torch.softmax(torch.stack(low_scores), 0) * torch.stack(lows)).sum(0)
    return low, (torch.softmax(torch.stack(high_scores), 0) * torch.stack(highs)).sum(0)


def output(program, image, scale, value_range=255):
    s = 3 if scale == 3 else 2
    shallow = program.conv("head.0", program.conv("sub_mean", image * value_range))
    x = shallow
    for b in range(BLOCKS // 2):
        x = block(program, f"body1.{b}.body", x)
    low, high = exchanged(program, image, x, s)
    fused = F.relu(program.conv("fuse_b.0.0", torch.cat([x, low], 1)))
    x = program.conv("fuse_b.1.0", fused)
    for b in range(BLOCKS - BLOCKS // 2):
        x = block(program, f"body2.{b}.body", x)
    x = program.conv(f"body2.{BLOCKS - BLOCKS // 2}.0", x) + shallow
    x = torch.cat([program.upsample("upsample", x), high], 1)
    for layer in range(2):
        x = F.relu(program.conv(f"fuse_up.{layer}.0", x))
    if scale == 4:
        x = program.upsample("tail.0", x)
    detail = program.conv(f"tail.{int(scale == 4)}.0", x)
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(program, load, assert_computes, scale, value_range):
    model = load(build(program, scale, value_range))
    config = model.config
    assert (config.scale, config.channels, config.num_blocks) == (scale, CHANNELS, BLOCKS)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, *((19, 22) if scale == 3 else (13, 14)), generator=generator)
    assert_computes(model, image, output(program, image, scale, value_range))


def test_a_training_checkpoint(program, load, tmp_path):
    weights = build(program, 2)
    wrapped = {"epoch_idx": 7, "best_PSNR": 30.0, "net_state_dict": weights}
    wrapped["solver_state_dict"] = {"state": {}, "param_groups": []}
    torch.save(wrapped, tmp_path / "training.pth")
    image = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        expected = load(weights)(image)
        assert torch.equal(load_model(tmp_path / "training.pth", device="cpu")(image), expected)
