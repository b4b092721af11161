"""Preloaded instead of ``distill.runtime.preload``: a fork server without torch, for tests that begin one or end it."""

import importlib
from unittest.mock import patch

with patch.object(importlib, "import_module"):
    import distill.runtime.preload  # noqa: F401
