"""Texts of data sets on the Hugging Face Hub."""

from collections.abc import Iterator

from distill.config.schema import HubSource
from distill.corpus.readers.rows import Columns, Row, check_columns
from distill.hub import stream_hub


def read_hub(source: HubSource, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a Hub data set. The whole split is streamed, also where the source has a limit.

    Raises:
        InputError: the data set cannot be reached or does not exist, or it has no such column.
    """
    for number, row in enumerate(stream_hub(source), 1):
        if number == 1:
            check_columns(f"The Hub data set {source.dataset}", columns, row)
        yield Row(number, *columns.of(row))
