"""Official NLSN and ENLCN checkpoints compute what the released programs compute.

Their attentions are written down position by position, and with the whole matrix of weights.
"""

import pytest
import torch
from torch.nn import functional as F

CHANNELS, REDUCTION, BLOCKS, INTERVAL = 8, 2, 4, 2
CHUNK, ROUNDS, PROJECTIONS = 10, 2, 12
SETTINGS = {"chunk": CHUNK, "rounds": ROUNDS, "residual_scale": 0.5}
KINDS = {"NLSN": ("conv_match",), "ENLCN": ("conv_match1", "conv_match2")}


def build(program, scale, value_range, kind):
    program.add_shifts(value_range)
    program.add("head.0", 3, CHANNELS)
    place = 0
    for block in range(BLOCKS + 1):
        if block % INTERVAL == 0:
            for name in KINDS[kind]:
                side = 3 if kind == "NLSN" else 1
                program.add(f"body.{place}.{name}.0", CHANNELS, CHANNELS // REDUCTION, side)
            program.add(f"body.{place}.conv_assembly.0", CHANNELS, CHANNELS, 1)
            if kind == "ENLCN":
                key = f"body.{place}.attn_fn.projection_matrix"
                program.draw(key, PROJECTIONS, CHANNELS // REDUCTION, spread=2)
            place += 1
        if block < BLOCKS:
            program.add(f"body.{place}.body.0", CHANNELS, CHANNELS)
            program.add(f"body.{place}.body.2", CHANNELS, CHANNELS)
            place += 1
    program.add(f"body.{place}", CHANNELS, CHANNELS)
    program.add_upsampler("tail.0", scale, CHANNELS)
    program.add("tail.1", CHANNELS, 3)
    return program.weights


def hashed(program, stem, x):
    """One image at a time, one round at a time, one chunk at a time."""
    match = program.conv(f"{stem}.conv_match.0", x).flatten(2)
    value = program.conv(f"{stem}.conv_assembly.0", x).flatten(2)
    count = match.shape[2]
    buckets = count // CHUNK + count // CHUNK % 2
    directions = torch.randn(1, match.shape[1], ROUNDS, buckets // 2)[0]
    images = []
    for m, v in zip(match, value, strict=True):
        outs, sums = [], []
        for r in range(ROUNDS):
            near = directions[:, r].T @ m
            codes = torch.cat([near, -near]).argmax(dim=0).tolist()
            order = sorted(range(count), key=codes.__getitem__)  # Python's sort is stable
            filled = order + order[count - -count % CHUNK :]
            chunks = [filled[i : i + CHUNK] for i in range(0, len(filled), CHUNK)]
            out, total = torch.empty(v.shape), torch.empty(count)
            for i in reversed(range(len(chunks))):  # a feature's first place counts
                seen = chunks[i] + chunks[i - 1] + chunks[(i + 1) % len(chunks)]
                keys = m[:, seen] / m[:, seen].norm(dim=0).clamp_min(5e-5)
                scores = m[:, chunks[i]].T @ keys
                mixed = (torch.softmax(scores, dim=1) @ v[:, seen].T).T
                for j in reversed(range(CHUNK)):
                    out[:, chunks[i][j]] = mixed[:, j]
                    total[chunks[i][j]] = torch.logsumexp(scores[j], dim=0)
            outs.append(out)
            sums.append(total)
        shares = torch.softmax(torch.stack(sums), dim=0)
        images.append(sum(share * out for share, out in zip(shares, outs, strict=True)))
    return torch.stack(images)


def by_features(program, stem, x):
    directions = program.weights[f"{stem}.attn_fn.projection_matrix"]

    def features(name):
        e = program.conv(f"{stem}.{name}.0", x).flatten(2)
        e = e / e.norm(dim=1, keepdim=True).clamp_min(5e-5) * 6**0.5
        return torch.exp(directions @ e - e.square().sum(1, keepdim=True) / 2) + 1e-4

    kernel = features("conv_match1").transpose(1, 2) @ features("conv_match2")
    weights = kernel / kernel.sum(dim=2, keepdim=True)
    return program.conv(f"{stem}.conv_assembly.0", x).flatten(2) @ weights.transpose(1, 2)


def output(program, x, value_range, kind):
    torch.manual_seed(0)
    attention = {"NLSN": hashed, "ENLCN": by_features}[kind]
    shallow = deep = program.conv("head.0", program.conv("sub_mean", x * value_range))
    place = 0
    while f"body.{place}.weight" not in program.weights:
        stem = f"body.{place}"
        if f"{stem}.conv_assembly.0.weight" in program.weights:
            branch = attention(program, stem, deep).view_as(deep)
        else:
            branch = program.conv(f"{stem}.body.2", F.relu(program.conv(f"{stem}.body.0", deep)))
        deep, place = deep + 0.5 * branch, place + 1
    deep = program.conv(f"body.{place}", deep) + shallow
    detail = program.conv("tail.1", program.upsample("tail.0", deep))
    return program.conv("add_mean", detail) / value_range


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value_range", [1, 255])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_computes_what_the_program_computes(
    program, load, image, assert_computes, scale, value_range, kind
):
    options = SETTINGS if kind == "NLSN" else {"residual_scale": 0.5}
    model = load(build(program, scale, value_range, kind), **options)
    assert type(model).__name__ == kind
    config = model.config
    assert (config.scale, config.num_blocks, config.interval) == (scale, BLOCKS, INTERVAL)
    assert (config.channels, config.reduction) == (CHANNELS, REDUCTION)
    assert_computes(model, image, output(program, image, value_range, kind))


def test_projections_come_from_the_checkpoint(program, load):
    weights = build(program, 2, 1, "ENLCN")
    stored = load(weights).body[0].projection_matrix
    assert torch.equal(stored, weights["body.0.attn_fn.projection_matrix"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_attention(program, load, kind):
    weights = build(program, 2, 1, kind)
    kept = {k: v for k, v in weights.items() if not k.startswith(("body.3.", "body.6."))}
    for old, new in ((4, 3), (5, 4), (7, 5)):
        for key in [k for k in kept if k.startswith(f"body.{old}.")]:
            kept[key.replace(f"body.{old}", f"body.{new}")] = kept.pop(key)
    model = load(kept)
    assert len(model.body) == BLOCKS + 1
