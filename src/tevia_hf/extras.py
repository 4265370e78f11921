"""Optional libraries, and the extras of this package that install them."""

from collections.abc import Iterator
from contextlib import contextmanager

EXTRA_OF = {
    "torch": "torch",
    "transformers": "torch",
    "safetensors": "torch",
    "huggingface_hub": "torch",
    "scipy": "metrics",
    "monai": "metrics",
    "evaluate": "metrics",
    "datasets": "train",
    "accelerate": "train",
    "pandas": "tables",
    "openpyxl": "tables",
    "matplotlib": "train",
    "jinja2": "train",
    "pydicom": "medical",
    "nibabel": "medical",
    "h5py": "medical",
    "tifffile": "medical",
    "zarr": "medical",
    "gradio": "demo",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "onnx",
    "tokenizers": "onnx",
    "openvino": "openvino",
    "peft": "peft",
    "ray": "ray",
}


class MissingExtraError(ImportError, ValueError):
    """An optional library is missing. Also a `ValueError`, which commands report without a traceback."""


@contextmanager
def needed_for(purpose: str) -> Iterator[None]:
    """Wraps imports of optional libraries: `with needed_for("Scoring masks"): from scipy import ndimage`.

    Raises `MissingExtraError` with the command that installs a missing library, "Scoring masks needs scipy: pip install
    'tevia_hf[metrics]'."
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRA_OF:
            raise
        hint = f"{purpose} needs {library}: pip install 'tevia_hf[{EXTRA_OF[library]}]'."
        raise MissingExtraError(hint, name=library) from error
