"""ONNX Runtime on the CPU: what an exported model is opened with."""

from pathlib import Path
from typing import Any

import torch

from distill.errors import InputError
from distill.models.quiet import first_line

FILE = "model.onnx"


def require_onnx() -> None:
    """Refuse to write ONNX files where what writes and reads them is missing.

    Raises:
        InputError: one of the packages is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise _missing() from error


def open_session(folder: Path) -> Any:
    """Open the ``model.onnx`` in a folder, with as many threads as PyTorch has.

    Raises:
        InputError: onnxruntime is not installed, or the file is missing or damaged.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise _missing() from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(folder / FILE, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own kinds share no base
        raise InputError(f"{folder / FILE} cannot be loaded ({first_line(error)}). Export it again with 'distill "
                         "export'.") from error


def _missing() -> InputError:
    return InputError("ONNX needs the packages onnx, onnxscript and onnxruntime, which are not installed. Install "
                      "sentidistill with its extra: pip install 'sentidistill[onnx]'.")
