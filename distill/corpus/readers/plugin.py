"""Files of a format of the user's own: a function that a config names reads them."""

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from distill.config.schema import PluginSource
from distill.corpus.readers.damage import is_damage
from distill.corpus.readers.rows import Columns, ColumnsSeen, Row
from distill.errors import InputError


def read_plugin(source: PluginSource, stream: BinaryIO, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a file as the user's function reads it, which is called with the stream and the options.

    It yields records: texts, or dicts by column; or pairs of a line number and one. Without a line number the record's
    own, from 1, is the place that messages name.

    Raises:
        Unfit: no record has the column; known only when all have been read.
        InputError: the function fails, or yields what is no record. Nobody knows then what else it would lose.
    """
    read, seen = source.load(), ColumnsSeen(name, columns)
    number, place = 0, 0
    try:
        for number, item in enumerate(read(stream, **source.options), 1):
            place, record = item if _is_pair(item) else (number, item)
            if isinstance(record, str):
                record = {columns.text: record}
            if not isinstance(record, Mapping):
                raise InputError(f"{name} line {place}: {source.use} yields a value of type {type(record).__name__}. "
                                 "A record is a text, a dict with the text in a column, or a pair of its line number "
                                 "and one of these.")
            seen.add(record)
            yield Row(place, *columns.of(record))
    except InputError:
        raise
    except Exception as error:
        if is_damage(error):  # of the stream: said by whoever opened it
            raise
        after = f"after line {place}" if number else "before its first record"
        raise InputError(f"{name}: {source.use} fails {after} with {type(error).__name__}: {error}. Mend it, or leave "
                         "this file out.") from error
    seen.check()


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], int)
