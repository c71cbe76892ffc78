"""Calls that can't be served say why; PyTorch's own formats."""

import io
import json

import pytest
import torch

from hspan import HspanError, InputError, UsageError, create_model
from hspan.export import TOLERANCE, deviations, export_model, trace
from hspan.export._check import require_within

SMALL = {"channels": 8, "num_blocks": 1, "attention_after": (1,)}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create_model("hspan-light", **SMALL).eval()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.onnx", {"format": "tensorrt"}, "format must be onnx, torch-export, aoti"),
        ("x.onnx", {"precision": "int4"}, "precision must be fp32, fp16, int8"),
        ("x.pt2", {}, "end in .onnx"),
        ("x.pt2", {"format": "aoti", "precision": "fp16"}, "only for ONNX"),
        ("x.onnx", {"precision": "int8"}, "name a folder"),
        ("x.pt2", {"format": "aoti", "memory_linear": True}, "no memory-linear form"),
    ],
)
def test_impossible_calls(model, tmp_path, name, options, message):
    with pytest.raises(UsageError, match=message):
        export_model(model, tmp_path / name, **options)


def test_folder_that_is_missing(model, tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        export_model(model, tmp_path / "none" / "x.onnx")


def test_truncated_attention_says_how_to_be_exact():
    with pytest.raises(UsageError, match="topk=none on the command line"):
        trace(create_model("hspan-light", **SMALL, topk=16).eval())


def test_training_mode_is_refused(model):
    with pytest.raises(UsageError, match=r"model\.eval"):
        trace(model.train())


@pytest.mark.parametrize("memory_linear", [False, True])
def test_program_of_pytorch_equals_the_network(model, tmp_path, memory_linear):
    path = tmp_path / "x.pt2"
    exported = export_model(model, path, format="torch-export", memory_linear=memory_linear)
    assert exported.bytes == path.stat().st_size
    assert max(d.largest for d in exported.deviations) <= TOLERANCE
    extra = {"metadata.json": ""}
    program = torch.export.load(io.BytesIO(path.read_bytes()), extra_files=extra)
    assert json.loads(extra["metadata.json"])["hspan.model"] == "hspan-light"
    names = {str(node.target) for node in program.graph.nodes}
    assert any(name.startswith("hspan.") for name in names) == memory_linear
    image = torch.rand(1, 3, 27, 14, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image), model(image), rtol=0, atol=TOLERANCE)


def test_a_program_that_differs_is_not_accepted(model):
    found = deviations(lambda image: model(torch.from_numpy(image)).detach().numpy() + 1e-3, model)
    with pytest.raises(HspanError, match="differs from the network by 1"):
        require_within(found, TOLERANCE)


def test_a_program_of_another_scale_is_not_accepted(model):
    with pytest.raises(HspanError, match="where the network gives"):
        deviations(lambda image: image, model, [(8, 9)])
