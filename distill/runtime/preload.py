"""What the fork server imports before it forks: torch, transformers and what works with them (no model, no CUDA).

:mod:`distill.runtime.process` names this module to :mod:`multiprocessing.forkserver`. To import it elsewhere would make
that process a fork server's likeness: it dies with the thread that started it.
"""

import contextlib
import ctypes
import importlib
import os
import signal
import warnings
from typing import Any
from unittest import mock

from distill.runtime.parent_death import die_with_parent

_PR_SET_CHILD_SUBREAPER = 36
_MODULES = ("torch", "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
            "sentencepiece", "pyarrow.parquet", "distill.engines.transformers.engine", "distill.engines.client",
            "distill.generation.worker")
"""What nearly every fork needs: each would import the last five itself, which takes half a second of CPU time."""

signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked decides what ends
die_with_parent(os.getppid())
# What forks leave behind is reaped here, so that it is gone; multiprocessing would warn of each.
ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")
os.dup2(2, 1)  # what libraries print is for the error stream
# scipy and scikit-learn, with which transformers does object detection and assisted generation, are a fifth of the
# time; a fork that needs them (an encoder's scores) imports them.
without: dict[str, Any] = dict.fromkeys(("is_scipy_available", "is_sklearn_available"), lambda: False)
with contextlib.suppress(Exception), mock.patch.multiple(importlib.import_module("transformers.utils"), **without):
    for name in _MODULES:
        with contextlib.suppress(Exception):  # the fork that needs it will say what is wrong
            importlib.import_module(name)
