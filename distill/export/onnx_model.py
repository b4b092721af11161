"""A language model as an ONNX file, and how ONNX Runtime answers with it."""

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from distill.config.sections.engines import PluginEngine
from distill.errors import InputError
from distill.export.logits_engine import LogitsEngine
from distill.export.merged import copy_settings
from distill.models import context_length, load_model
from distill.models.onnx_session import FILE, open_session, require_onnx
from distill.models.quiet import first_line, quiet_transformers


def write_onnx(source: Path, out: Path) -> None:
    """Write a model in float32 to ``out``: ``input_ids`` and ``attention_mask`` in, ``logits`` out, of any lengths.

    The weights are in ``model.onnx.data`` beside it. There are no keys and values among inputs and outputs: it is for
    scoring labels and for short answers.

    Raises:
        InputError: there is no exporter, or it does not know the architecture.
    """
    require_onnx()
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    model = load_model(source, "float32", "cpu")
    example = {"input_ids": torch.ones(2, 7, dtype=torch.long), "attention_mask": torch.ones(2, 7, dtype=torch.long),
               "use_cache": False}
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=context_length(source))}
    config = OnnxConfig(dynamic=True, output_path=out / FILE, dynamic_shapes={
        "input_ids": shape, "attention_mask": shape})
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of operators that no language model has
    try:
        with quiet_transformers(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            OnnxExporter().export(model, example, config)
    except Exception as error:  # of torch, transformers and onnxscript, which share no class
        raise InputError(f"The model in {source} ({model.config.model_type}) cannot be written as ONNX "
                         f"({first_line(error)}): transformers' exporter does not know its architecture.") from error
    copy_settings(source, out)


class OnnxEngine(LogitsEngine):
    """See :class:`distill.engines.base.Engine`: ONNX Runtime on the CPU."""

    name = "onnxruntime"
    capabilities: ClassVar = LogitsEngine.capabilities

    def __init__(self, config: PluginEngine, folder: Path) -> None:
        """Load ``model.onnx``.

        Raises:
            InputError: onnxruntime is not installed, or the file is missing or damaged.
        """
        super().__init__(config, folder)
        self._session: Any = open_session(folder)

    def logits(self, ids: Sequence[int], last: int) -> torch.Tensor:
        """Return the logits behind the last tokens of a sequence; see :class:`LogitsEngine`."""
        batch = torch.tensor([list(ids)])
        (found,) = self._session.run(["logits"], {"input_ids": batch.numpy(),
                                                  "attention_mask": torch.ones_like(batch).numpy()})
        return torch.from_numpy(found[0, -last:])

    def close(self) -> None:
        """Give the memory back."""
        self._session = None
