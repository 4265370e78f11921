"""The authors' network as numbers: weights and inputs drawn from names, and what came out of theirs for these.

`network_expected.npz` holds float32 results of their network in eval mode: `probabilities`, and per scale 0 to 2 (768,
384 and 192 channels) `text_mean_*` and `visual_mean_*` (L2-normalised); `alignment_loss` (before its weight) and
`dice_loss`; `probabilities_with_prototype` for the prototypes `prototype_before_*`, `prototype_after_*` one momentum
step (0.99) later, and `collected_0`, the first prototype after one warm-up batch.
"""

import json
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

FOLDER = Path(__file__).parent
MANIFEST = json.loads((FOLDER / "network_manifest.json").read_text(encoding="utf-8"))
SIZE, TOKENS, BATCH = 224, 24, 2
PROTOTYPE_WIDTHS = (768, 384, 192)


class ReferenceInputs(NamedTuple):
    """`pixel_values (2, 3, 224, 224)`, two `(2, 24)` token arrays, `labels (2, 224, 224)`, a prototype a scale."""

    pixel_values: np.ndarray
    input_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray
    prototypes: list[np.ndarray]


def generator_for(name: str) -> np.random.Generator:
    seed = zlib.crc32(f"{MANIFEST['salt']}:{name}".encode())
    return np.random.Generator(np.random.PCG64(seed))


def affine_of(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Offset and factor that turn standard normal values into plausible weights; the first match counts."""
    rules = (
        (name.endswith("running_mean"), (0.0, 0.1)),
        (name.endswith("guide_layer.scale"), (0.5, 0.0)),
        ("layer_scale" in name, (0.5, 0.1)),
        (name.endswith("prompt"), (0.0, 0.2)),
        (name.endswith("bias"), (0.0, 0.05)),
        (len(shape) == 1, (1.0, 0.1)),
        ("embeddings" in name and len(shape) == 2, (0.0, 0.1)),
    )
    fan_in = float(np.prod(shape[1:]))
    return next((affine for matches, affine in rules if matches), (0.0, 1 / np.sqrt(fan_in)))


def draw_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One weight of the reference network, float32 (a counter: int64)."""
    if name.endswith("num_batches_tracked"):
        return np.asarray(1)
    values = np.asarray(generator_for(name).standard_normal(shape, dtype=np.float32))
    if name.endswith("running_var"):
        return 1 + 0.2 * np.abs(values)
    offset, factor = affine_of(name, shape)
    return np.asarray(offset + factor * values, dtype=np.float32)


def lightning_shapes() -> dict[str, tuple[int, ...]]:
    """The authors' tensor names (without Lightning's `model.`) and shapes."""
    return {name: tuple(shape) for name, shape in MANIFEST["state_dict"].items()}


def reference_state_dict() -> dict[str, np.ndarray]:
    return {name: draw_tensor(name, shape) for name, shape in lightning_shapes().items()}


def reference_inputs() -> ReferenceInputs:
    """The batch; the order of the draws is part of the case."""
    rng = generator_for("inputs")
    pixel_values = rng.standard_normal((BATCH, 3, SIZE, SIZE), dtype=np.float32)
    input_ids = rng.integers(1, MANIFEST["text_config"]["vocab_size"], (BATCH, TOKENS))
    lengths = np.array([[rng.integers(8, TOKENS)] for _ in range(BATCH)])
    attention_mask = (np.arange(TOKENS) < lengths).astype(np.int64)
    prototypes = [0.3 * rng.standard_normal(width, dtype=np.float32) for width in PROTOTYPE_WIDTHS]
    labels = np.stack([disc(80 + 40 * b, 120 - 20 * b, radius=40 + 10 * b) for b in range(BATCH)])
    return ReferenceInputs(pixel_values, input_ids * attention_mask, attention_mask, labels, prototypes)


def disc(row: int, column: int, radius: int) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return ((y - row) ** 2 + (x - column) ** 2 < radius**2).astype(np.int64)


def expected() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "network_expected.npz") as file:
        return dict(file)
