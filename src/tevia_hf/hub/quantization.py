"""Static int8 quantization of an ONNX graph, whose quantized nodes OpenVINO understands as well."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ..extras import needed_for

with needed_for("Quantizing"):
    import onnx
    from onnxruntime import quantization

QUANTIZED = ("Conv", "MatMul")  # operations, where one factor is a weight
MARKS = {"onnx": ("QuantizeLinear", "DequantizeLinear"), "openvino": ("FakeQuantize",)}  # nodes of quantized values


class Inputs(quantization.CalibrationDataReader):
    """Inputs of a graph, one batch after the other."""

    def __init__(self, batches: Sequence[Mapping[str, np.ndarray]]):
        self.remaining = iter(batches)

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        return next(self.remaining, None)


def quantize_graph(source: Path, target: Path, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Writes a graph whose convolutions and linear layers compute with int8 weights, one scale per output channel.

    Depthwise and pointwise convolutions, products of two activations, norms, softmax and the last convolution, whose
    outputs are the logits, stay in float32. Pointwise ones lose the most Dice (MobileNetV2: 1.2 points of 100) and
    are no faster in onnxruntime without VNNI.

    Args:
        batches: inputs of the graph; the range of an activation is the mean of theirs, as outliers of a single image
            would make the steps of all others coarse.

    Raises `ValueError` if the graph has nothing to quantize.
    """
    with TemporaryDirectory() as root, without_advice():
        folded = Path(root, source.name)  # where each weight is a constant, not the slice of one
        quantization.quant_pre_process(source, folded, skip_symbolic_shape=True)
        if not (nodes := quantizable_nodes(onnx.load(folded, load_external_data=False).graph)):
            raise ValueError("The segmenter has no convolution and no linear layer to quantize: export it in float32.")
        quantization.quantize_static(
            folded,
            target,
            Inputs(batches),
            nodes_to_quantize=nodes,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            reduce_range=True,  # 7 bits: without VNNI, sums of products of 8 bits would exceed 16 bits
            extra_options={
                "CalibMovingAverage": True,
                "OpTypesToExcludeOutputQuantization": ["MatMul"],  # as norms and GELU read them
            },
        )


def quantizable_nodes(graph: onnx.GraphProto) -> list[str]:
    """The names of convolutions over several pixels and all channels, without the last, and of linear layers."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in QUANTIZED and node.input[1] in weights]
    head = next((node.name for node in reversed(nodes) if node.op_type == "Conv"), None)
    return [node.name for node in nodes if node.name != head and pays(node, weights[node.input[1]])]


def pays(node: onnx.NodeProto, shape: tuple[int, ...]) -> bool:
    """Whether a node with weights of this shape is a linear layer, or a convolution as `quantize_graph` takes them."""
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    return node.op_type == "MatMul" or (groups == 1 and max(shape[2:]) > 1)


def quantized_nodes(path: Path) -> dict[str, int]:
    """The number of nodes that quantize values, or restore them, of each kind, in a file of either format."""
    if path.suffix == ".onnx":
        types = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
        return {name: types[name] for name in MARKS["onnx"]}
    import openvino

    types = Counter(node.get_type_name() for node in openvino.Core().read_model(path).get_ops())
    return {name: types[name] for name in MARKS["openvino"]}


@contextmanager
def without_advice() -> Iterator[None]:
    """Context without the advice that the quantizer logs, to prepare the graph in ways that were chosen here."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
