"""Log lines that say where they are from: run, stage and, where there is one, shard."""

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from distill.secrets import without_secrets

LOGGER = "sentidistill"
_where: ContextVar[tuple[str, ...]] = ContextVar("where", default=())


@contextlib.contextmanager
def within(*parts: str) -> Iterator[None]:
    """Begin every line of the project's log with these parts, after those already set, until the context ends."""
    token = _where.set((*_where.get(), *parts))
    try:
        yield
    finally:
        _where.reset(token)


def install() -> None:
    """Have the project's log records carry where they are from. A second call does nothing.

    It is done where records are made, as they go to handlers that are not ours (Prefect's) in formats that are not.
    Other libraries wrap the making of records too, so that ours may be there and not be seen: a record is marked,
    and never said twice where it is from. Of addresses in any library's record or traceback, the secret parts go.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "says_where", False):
        return

    def record_of(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        _hide_secrets(record)
        parts = _where.get()
        if parts and record.name.split(".")[0] == LOGGER and not hasattr(record, "says_where"):
            record.says_where = True
            record.msg = " | ".join([*(part.replace("%", "%%") if record.args else part for part in parts),
                                     str(record.msg)])
        return record

    record_of.says_where = True  # type: ignore[attr-defined]  # a mark, by which it is known above
    logging.setLogRecordFactory(record_of)


def _hide_secrets(record: logging.LogRecord) -> None:
    try:
        said = record.getMessage()
    except Exception:  # a library's own mistake, which logging reports when the record is written
        return
    if "://" in said and (clean := without_secrets(said)) != said:
        record.msg, record.args = clean, ()
    if record.exc_info and record.exc_info[1] is not None:
        trace = logging.Formatter().formatException(record.exc_info)
        if "://" in trace:
            record.exc_text = without_secrets(trace)
