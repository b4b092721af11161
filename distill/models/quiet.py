"""transformers without its progress bars and advice, and what is kept of its errors."""

import contextlib
import logging as python_logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and advice off the user's screen for the time of a load."""
    from transformers.utils import logging

    python_logging.getLogger("DeepSpeed").addFilter(_is_news)
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _is_news(record: python_logging.LogRecord) -> bool:
    return "Setting accelerator to CPU" not in record.getMessage()  # DeepSpeed says so at each import


def first_line(error: object) -> str:
    """Return the kind of an error and the first line of what it says, which may be pages."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no details")
    return f"{type(error).__name__}: {line[:200]}"
