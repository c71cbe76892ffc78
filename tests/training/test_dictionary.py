"""Learning SPMSR: each step against what it must achieve, and the whole against bicubic."""

import torch

from hspan.imaging import degrade
from hspan.models import create_model
from hspan.training import _dictionary as learning
from hspan.training import fit_spmsr, train
from hspan.weights import load_model


def photographs(count=6, side=48, scale=2):
    """Images of straight edges and their reductions."""
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(-1, 1, side)
    slopes = torch.randn(count, 2, generator=generator)
    offsets = torch.randn(count, generator=generator) * 0.3
    planes = (
        slopes[:, :1, None] * line[:, None] + slopes[:, 1:, None] * line + offsets[:, None, None]
    )
    hr = torch.sigmoid(60 * torch.sin(4 * planes))[:, None].expand(-1, 3, -1, -1) * 0.8 + 0.1
    return degrade(hr, scale), hr


def test_learned_network_beats_interpolation():
    lr, hr = photographs()
    torch.manual_seed(0)
    network = create_model("spmsr", scale=2, patch=5, lr_atoms=16, hr_atoms=20)
    fit_spmsr(network, lr, hr, samples=3000, steps=30)
    with torch.no_grad():
        errors = [(image - hr).square().mean() for image in (network(lr), network.enlarge(lr))]
    assert errors[0] < 0.6 * errors[1]


def test_same_seed_same_network():
    lr, hr = photographs(count=2)
    networks = [create_model("spmsr", patch=3, lr_atoms=6, hr_atoms=8) for _ in range(2)]
    for network in networks:
        fit_spmsr(network, lr, hr, samples=500, steps=2)
    first, second = (network.state_dict() for network in networks)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_pursuit_finds_the_codes():
    generator = torch.Generator().manual_seed(0)
    atoms = torch.nn.functional.normalize(torch.randn(30, 49, generator=generator), dim=1)
    codes = torch.zeros(200, 30)
    for row in codes:
        row[torch.randperm(30, generator=generator)[:3]] = 1 + torch.rand(3, generator=generator)
    found = learning._pursue(codes @ atoms, atoms)
    assert ((found != 0) == (codes != 0)).all(dim=1).float().mean() > 0.9
    exact = ((found != 0) == (codes != 0)).all(dim=1)
    torch.testing.assert_close(found[exact], codes[exact], rtol=0.01, atol=0.01)


def test_orthonormal_atoms(monkeypatch):
    """Fewer large inner products say as much about the patches as principal components do."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.linalg.qr(torch.randn(25, 8, generator=generator)).Q
    drawn = torch.rand(2000, 8, generator=generator) < 0.3
    x = torch.randn(2000, 8, generator=generator).where(drawn, torch.zeros(())) @ truth.T
    missed = []
    for rounds in (1, 15):
        monkeypatch.setattr(learning, "_ROUNDS", rounds)
        atoms, threshold = learning._orthonormal(x, 8)
        torch.testing.assert_close(atoms.T @ atoms, torch.eye(8), atol=1e-5, rtol=0)
        alpha = x @ atoms
        missed.append(alpha.where(alpha.abs() <= threshold, torch.zeros(())).norm())
    assert missed[1] < 0.8 * missed[0]


def test_logistic_regression():
    """Against probabilities that the model can represent: the slope of the likelihood vanishes."""
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(0, 2, (20_000, 4), generator=generator) * 2.0 - 1
    weight = torch.tensor([[0.5, -0.2, 0.0, 0.3], [0.0, 0.4, -0.4, 0.0]])
    bias = torch.tensor([-0.5, 0.2])
    probability = torch.sigmoid(2 * (pattern @ weight.T + bias))
    used = torch.rand(probability.shape, generator=generator) < probability
    found, offset = learning._logistic(pattern, used)
    assert (found - weight).abs().max() < 0.05
    assert (offset - bias).abs().max() < 0.05


def test_training_run_starts_from_statistics(tiny, tmp_path):
    """And what is averaged starts there too."""
    recipe = tiny("training.max_steps=1", "training.ema=0.9", recipe="spmsr_x2")
    result = train(recipe, tmp_path / "run")
    network = load_model(result.weights, device="cpu")
    atoms = network.levels[0].analysis.flatten(1)
    fresh = create_model("spmsr", patch=5, lr_atoms=8, hr_atoms=12).levels[0]
    assert (atoms - fresh.analysis.flatten(1)).abs().max() > 0.1  # no longer cosines
    torch.testing.assert_close(atoms @ atoms.T, torch.eye(8), atol=0.05, rtol=0)
