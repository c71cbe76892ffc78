"""ONNX files: equal to the network at any size, sparse weights that sum to 1, and what they say."""

import json

import numpy as np
import pytest
import torch

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from onnx import TensorProto, helper  # noqa: E402

from hspan import create_model, hspa_attention, soft_threshold  # noqa: E402
from hspan.export import TOLERANCE, deviations, export_model, onnx_runner  # noqa: E402
from hspan.export._onnx_functions import DOMAIN, OPSET, attention_functions  # noqa: E402

FORMS = [False, True]
IDS = ["fixed steps", "memory-linear"]


def light():
    torch.manual_seed(0)
    return create_model("hspan-light", channels=8, num_blocks=2).eval()


def paper():
    torch.manual_seed(0)
    settings = {"channels": 8, "num_modules": 1, "num_blocks": 1, "topk": None}
    return create_model("hspan", scale=3, **settings).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Each form of the two networks, exported once: (network, memory_linear) to (file, model)."""
    folder = tmp_path_factory.mktemp("onnx")
    made = {}
    for name, memory_linear in [("light", False), ("light", True), ("paper", True)]:
        model = light() if name == "light" else paper()
        path = folder / f"{name}{memory_linear}.onnx"
        exported = export_model(
            model, path, memory_linear=memory_linear, metadata={"licence": "CC0-1.0"}
        )
        made[name, memory_linear] = exported, model
    return made


@pytest.mark.parametrize("which", [("light", False), ("light", True), ("paper", True)])
def test_equals_the_network_at_every_size(files, which):
    exported, model = files[which]
    assert len(exported.deviations) == 5
    assert max(d.largest for d in exported.deviations) <= TOLERANCE
    # Sizes beyond those that the export itself looked at: single pixels, one patch, one row.
    run = onnx_runner(exported.path.read_bytes())
    small = deviations(run, model, [(1, 1), (3, 5), (4, 4), (1, 30), (33, 2)])
    assert max(d.largest for d in small) <= TOLERANCE


@pytest.mark.parametrize("which", [("light", False), ("light", True)])
def test_holds_no_operator_that_runtimes_lack(files, which):
    proto = onnx.load(files[which][0].path)
    onnx.checker.check_model(proto, full_check=True)
    assert {o.domain: o.version for o in proto.opset_import}[""] == OPSET
    operators = {node.op_type for node in proto.graph.node}
    operators |= {node.op_type for function in proto.functions for node in function.node}
    assert not operators & {"TopK", "Sort", "NonZero", "If", "Unique"}
    assert ("Loop" in operators, "Scan" in operators) == (which[1], which[1])


def test_says_what_it_is(files):
    proto = onnx.load(files["paper", True][0].path)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert facts["hspan.model"] == "hspan"
    assert json.loads(facts["hspan.config"])["channels"] == 8
    assert (facts["scale"], facts["licence"], facts["precision"]) == ("3", "CC0-1.0", "fp32")
    sides = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (proto.graph.input[0], proto.graph.output[0])
    ]
    assert sides == [[1, 3, "height", "width"], [1, 3, "3*height", "3*width"]]


def test_holds_no_paths_of_this_machine(files):
    content = files["light", False][0].path.read_bytes()
    assert b".py" not in content
    assert b"site-packages" not in content


def function_model(name, inputs, memory_linear):
    """A model that calls nothing but one of the functions."""
    shapes = [helper.make_tensor_value_info(i, TensorProto.FLOAT, [None] * 3) for i in inputs]
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, [None] * 3)
    graph = helper.make_graph(
        [helper.make_node(name, inputs, ["out"], domain=DOMAIN)], "test", shapes, [result]
    )
    return helper.make_model(
        graph,
        functions=attention_functions(memory_linear=memory_linear),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=9,
    )


def session(model):
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.mark.parametrize("memory_linear", FORMS, ids=IDS)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 1e4])
def test_weights_are_those_of_soft_thresholding(memory_linear, spread):
    run = session(function_model("SoftThreshold", ["scores"], memory_linear))
    scores = torch.randn(2, 60, 301, generator=torch.Generator().manual_seed(0)) * spread
    (weights,) = run.run(None, {"scores": scores.numpy()})
    torch.testing.assert_close(torch.from_numpy(weights), soft_threshold(scores), rtol=0, atol=2e-6)
    assert np.abs(weights.sum(-1, dtype=np.float64) - 1).max() < 1e-5
    assert ((weights == 0).mean() > 0.9) == (spread >= 1)


@pytest.mark.parametrize("memory_linear", FORMS, ids=IDS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (63, 100), (300, 40_000)])
def test_attention_and_its_row_sums(memory_linear, queries, keys):
    run = session(function_model("Attention", ["q", "k", "v"], memory_linear))
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, queries, 6, generator=generator)
    key = torch.randn(1, keys, 6, generator=generator)
    value = torch.cat([torch.randn(1, keys, 4, generator=generator), torch.ones(1, keys, 1)], 2)
    (mixed,) = run.run(None, {"q": query.numpy(), "k": key.numpy(), "v": value.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(mixed), hspa_attention(query, key, value), rtol=0, atol=1e-5
    )
    assert np.abs(mixed[..., -1] - 1).max() < 1e-5  # a value of 1 everywhere: the row's sum


def test_half_precision_halves_the_file(files, tmp_path):
    exported, model = files["light", True]
    half = export_model(model, tmp_path / "half.onnx", precision="fp16", memory_linear=True)
    weights = sum(p.numel() for p in model.parameters())
    assert exported.bytes - half.bytes > weights  # two bytes less each, but new nodes
    assert max(d.largest for d in half.deviations) < 2e-3
