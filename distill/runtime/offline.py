"""Keeping libraries off the network in this process, whether or not they are imported already."""

import os
import sys

_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def go_offline() -> None:
    """Have Hugging Face's libraries ask no server, unless the environment says otherwise (``HF_HUB_OFFLINE=0``)."""
    for name in _VARIABLES:
        os.environ.setdefault(name, "1")
    if os.environ["HF_HUB_OFFLINE"].upper() not in ("1", "ON", "YES", "TRUE"):
        return
    # They read the variables while they are imported: in a fork of a process that had imported them, too early.
    for module, names in (("huggingface_hub.constants", ("HF_HUB_OFFLINE",)),
                          ("datasets.config", ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))):
        if module in sys.modules:
            for name in names:
                setattr(sys.modules[module], name, True)
