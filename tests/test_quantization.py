"""Models are quantized to int8 by real images, where it pays, and written only if their masks stay right."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tevia_hf import Calibration
from tevia_hf.hub.calibration import check_dice
from tevia_hf.hub.quantization import quantizable_nodes, quantize_graph, quantized_nodes

# Convolutions: inputs, outputs, groups, side of the kernel.
CONVOLUTIONS = {
    "first": (3, 4, 1, 3),
    "depthwise": (4, 4, 4, 3),
    "pointwise": (4, 6, 1, 1),
    "second": (6, 5, 1, 3),
    "head": (5, 1, 1, 3),
}


def graph_of(**convolutions):
    """A chain of convolutions, of which the last is the head, each input multiplied by itself in between."""
    rng, nodes, weights, last = np.random.default_rng(0), [], [], "pixel_values"
    for name, (inputs, outputs, groups, side) in convolutions.items():
        kernel = rng.standard_normal((outputs, inputs // groups, side, side)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"{name}_weight"))
        settings = {"name": name, "group": groups, "auto_pad": "SAME_UPPER"}
        nodes.append(helper.make_node("Conv", [last, f"{name}_weight"], [name], **settings))
        nodes.append(helper.make_node("MatMul", [name, name], [last := f"{name}_squared"], name=f"{name}_squared"))
    ends = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, 8, 8])]
    ends.append(helper.make_tensor_value_info(last, TensorProto.FLOAT, None))
    return helper.make_graph(nodes, "graph", ends[:1], ends[1:], weights)


def saved(graph, path):
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_depthwise_and_pointwise_convolutions_the_head_and_products_of_activations_stay_in_float32():
    assert quantizable_nodes(graph_of(**CONVOLUTIONS)) == ["first", "second"]


def test_quantized_graphs_hold_int8_weights_with_a_scale_for_each_channel(tmp_path):
    source = saved(graph_of(**CONVOLUTIONS), tmp_path / "float.onnx")
    batches = [{"pixel_values": np.full((1, 3, 8, 8), value, np.float32)} for value in (1, 2, 255)]
    quantize_graph(source, target := tmp_path / "int8.onnx", batches)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(target).graph.initializer}
    int8 = {name: values.shape for name, values in weights.items() if name.endswith("weight_quantized")}
    assert int8 == {"first_weight_quantized": (4, 3, 3, 3), "second_weight_quantized": (5, 6, 3, 3)}
    assert weights["second_weight_scale"].shape == (5,)
    assert weights["pixel_values_scale"] * 255 == pytest.approx(86)  # the mean, as a single image may have outliers
    assert all(abs(weights[name]).max() <= 64 for name in int8)  # without VNNI, pairs of products fit 16 bits
    assert min(quantized_nodes(target).values()) > 0 and max(quantized_nodes(source).values()) == 0


def test_a_graph_without_anything_to_quantize_is_refused(tmp_path):
    source = saved(graph_of(head=(3, 1, 1, 3)), tmp_path / "float.onnx")
    with pytest.raises(ValueError, match="no convolution and no linear layer to quantize"):
        quantize_graph(source, tmp_path / "int8.onnx", [])
    assert not (tmp_path / "int8.onnx").exists()


@pytest.mark.parametrize(
    ("dice", "message"),
    [
        ({"float32": 0.8, "int8": 0.7905}, r"loses 0.0095 Dice.*--most-dice-lost 0.010"),
        ({"float32": 0.05, "int8": 0.05}, "too low to show what int8 costs"),
    ],
)
def test_a_loss_of_dice_is_refused_with_what_to_do(dice, message):
    with pytest.raises(ValueError, match=message):
        check_dice(dice, most_lost=0.005)


def test_a_small_loss_and_a_gain_are_accepted():
    check_dice({"float32": 0.8, "int8": 0.797}, most_lost=0.005)
    check_dice({"float32": 0.8, "int8": 0.81}, most_lost=0.0)


def test_samples_come_from_the_training_and_the_validation_split():
    calibration = Calibration.from_dataset("synthetic", calibration_images=3, validation_images=2)
    names = [list(dataset["id"]) for dataset in (calibration.examples, calibration.validation)]
    assert list(map(len, names)) == [3, 2]
    assert all("train" in name for name in names[0]) and all("val" in name for name in names[1])


@pytest.mark.parametrize(
    "option", [{"calibration_images": 0}, {"validation_images": 1.5}, {"most_dice_lost": 2.0}, {"seed": -1}], ids=str
)
def test_options_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        Calibration.from_dataset("synthetic", **option)
