import pytest
import torch

from hspan.errors import UsageError
from hspan.models import create_model


def test_dictionary_starts_orthonormal_without_the_mean():
    level = create_model("spmsr").levels[0]
    atoms = level.analysis.detach().flatten(1)
    torch.testing.assert_close(atoms @ atoms.T, torch.eye(len(atoms)))
    assert atoms.sum(1).abs().max() < 1e-5


def test_prediction_of_a_patch():
    """A level against its formula on the patches around one pixel, by loops."""
    torch.manual_seed(0)
    level = create_model("spmsr", patch=3, lr_atoms=5, hr_atoms=4).levels[0]
    y = torch.rand(1, 1, 9, 8)
    row, column = 4, 3
    expected = 0.0
    with torch.no_grad():
        for top in range(row - 2, row + 1):
            for left in range(column - 2, column + 1):
                patch = y[0, 0, top : top + 3, left : left + 3].flatten()
                alpha = level.analysis.flatten(1) @ patch
                pattern = torch.where(alpha.abs() > level.threshold.flatten(), 1.0, -1.0)
                field = level.support.weight.flatten(1) @ pattern + level.support.bias
                beta = torch.sigmoid(2 * field) * (level.coefficients.weight.flatten(1) @ alpha)
                difference = (beta @ level.synthesis.flatten(1)).view(3, 3)
                expected += difference[row - top, column - left] / 9
        torch.testing.assert_close(level(y)[0, 0, row, column], expected)


def test_more_atoms_than_a_patch_without_its_mean_has_dimensions():
    with pytest.raises(UsageError, match=r"lie in \[1, 8\]"):
        create_model("spmsr", patch=3, lr_atoms=9)
