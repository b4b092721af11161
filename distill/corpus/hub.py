"""Data sets on the Hugging Face Hub, streamed through ``datasets``."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from distill.config.schema import HubSource
from distill.corpus.rows import Columns, Row, check_columns
from distill.errors import InputError


def read_hub(source: HubSource, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a Hub data set. The whole split is streamed, also where the source has a limit.

    Raises:
        InputError: the data set cannot be reached or does not exist, or it has no such column.
    """
    import datasets

    try:
        rows = iter(datasets.load_dataset(source.dataset, source.name, split=source.split, revision=source.revision,
                                          streaming=True))
        batch: list[dict[str, Any]] = list(islice(rows, 1))
    except Exception as error:  # `datasets` raises whatever its file system and network layers raise
        raise _unreachable(source, error) from error
    if batch:
        check_columns(f"The Hub data set {source.dataset}", columns, batch[0])
    number = 0
    while batch:
        for row in batch:
            number += 1
            yield Row(number, row.get(columns.text), row.get(columns.domain) if columns.domain else None)
        try:
            batch = list(islice(rows, 256))
        except Exception as error:
            raise _unreachable(source, error) from error


def _unreachable(source: HubSource, error: Exception) -> InputError:
    asked = ", ".join(str(part) for part in (source.dataset, source.name, source.split, source.revision) if part)
    reason = " ".join(str(error).split())[:300]
    return InputError(f"The Hub data set {asked} cannot be read ({type(error).__name__}: {reason}). Check its name, "
                      "configuration and split, and that the Hub can be reached (HF_HUB_OFFLINE unset; HF_TOKEN for a "
                      "gated one); or download it and name its files as a source.")
