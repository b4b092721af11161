"""Data sets on the Hugging Face Hub, streamed through ``datasets``."""

from collections.abc import Iterator
from typing import Any

from distill.config.sections.base import HubDataset
from distill.errors import InputError


def stream_hub(wanted: HubDataset) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split as ``datasets`` has them, one after another.

    Raises:
        InputError: the data set cannot be reached or does not exist, or a part of it cannot be read.
    """
    import datasets

    try:
        yield from datasets.load_dataset(
            wanted.dataset, wanted.name, split=wanted.split, revision=wanted.revision, streaming=True)
    except Exception as error:  # `datasets` raises whatever its file system and network layers raise
        asked = ", ".join(str(part) for part in (wanted.dataset, wanted.name, wanted.split, wanted.revision) if part)
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"The Hub data set {asked} cannot be read ({type(error).__name__}: {reason}). Check its name, "
            "configuration and split, and that the Hub can be reached (HF_HUB_OFFLINE unset; HF_TOKEN for a gated "
            "one); or download it and name its files as a source.") from error
