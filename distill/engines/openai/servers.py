"""The endpoints of a config, asked from any thread: their requests run in an event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from distill.config.sections.engines import OpenAIEngine as Config
from distill.engines.encoding import answer_end_ids
from distill.engines.openai.backoff import Backoff
from distill.engines.openai.client import Client
from distill.engines.openai.endpoint import Endpoint
from distill.engines.openai.key import Key
from distill.engines.openai.pool import Pool
from distill.engines.openai.top_scores import MOST_AT_ONCE
from distill.engines.openai.transport import raise_file_limit
from distill.errors import InputError
from distill.models import load_tokenizer
from distill.models.tokenizer import tokenizer_folder

T = TypeVar("T")


class Servers:
    """Endpoints that have been found to serve the model, and the tokenizer that the config names for it, if any."""

    def __init__(self, config: Config, backoff: Backoff) -> None:
        """Ask the endpoints whether they have the model, and wait a while for the first that answers.

        Raises:
            InputError: an address, the key, the name of the model or the tokenizer is wrong.
            ProcessDiedError: no endpoint answers.
        """
        if config.model is None:
            raise InputError("The engine 'openai' does not know what to ask for. Set its 'model' to the name under "
                             "which the model is served.")
        self.model, self.key = config.model, Key(config.api_key_variable)
        self.tokenizer, self.end_ids = _tokenizer(config)
        self.pool = Pool([Endpoint(Client(url, self.key, config.timeout, config.concurrency), self.model,
                                   config.concurrency) for url in config.base_urls], config.outage_timeout, backoff)
        raise_file_limit(self.pool.capacity)
        self.reading = asyncio.Semaphore(MOST_AT_ONCE * len(config.base_urls))
        """Held while a server reads a prompt and an answer for log-probabilities."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="endpoints", daemon=True)
        self._thread.start()
        try:
            self.run(self.pool.open())
        except BaseException:
            self.close()
            raise
        limits = [config.max_model_len, *(entry.max_model_len for entry in self.pool.entries())]
        self.max_model_len = min((limit for limit in limits if limit), default=None)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin some work."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work and return its result."""
        return self.submit(work).result()

    def close(self) -> None:
        """Close the connections."""
        if self._loop.is_closed():
            return
        self.run(self.pool.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _tokenizer(config: Config) -> tuple[Any, tuple[int, ...]]:
    """Return the tokenizer that the config names, and the tokens that end an answer; None where it names none."""
    if config.tokenizer is None:
        return None, ()
    try:
        folder: Path = tokenizer_folder(config.tokenizer.name, config.tokenizer.revision)
        tokenizer = load_tokenizer(folder, config.chat_template_kwargs)
    except InputError as error:
        raise InputError(f"{error} (It is the tokenizer of the engine 'openai' that is missing: set its 'tokenizer' to "
                         "a model with the same one, or to null to do without.)") from error
    return tokenizer, tuple(answer_end_ids(tokenizer, folder))
