"""How many tokens an answer took: as the server says, and reckoned here where it says nothing that can be."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from distill.engines.base import Output, Request
from distill.engines.openai.logprobs import PATH
from distill.engines.openai.pool import Pool
from distill.engines.openai.responses import Completion
from distill.models.tokenization import encode_prompt

T = TypeVar("T")

_BYTES_A_TOKEN = 3
"""Without a tokenizer: rather too few, so that tokens are rather overcounted (English has about 4, Chinese 3 to 5)."""

log = logging.getLogger("sentidistill.engines")


@dataclass(frozen=True)
class Usage:
    """Tokens of a prompt and its answer, and whether any of them were ``estimated``."""

    n_prompt_tokens: int
    n_output_tokens: int
    n_cached_tokens: int = 0
    estimated: bool = False

    def __add__(self, other: "Usage") -> "Usage":
        """Return what two requests took together."""
        return Usage(self.n_prompt_tokens + other.n_prompt_tokens, self.n_output_tokens + other.n_output_tokens,
                    self.n_cached_tokens + other.n_cached_tokens, self.estimated or other.estimated)


class CountedRequests:
    """Requests to a pool for log-probabilities of tokens, each of which writes one; ``used`` is what they took."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.used = Usage(0, 0)

    async def ask(self, body: dict[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """Return what ``read`` makes of the answer. Raises as :meth:`Pool.ask`."""
        self.used += Usage(len(body["prompt"]), 1)
        return await self._pool.ask(PATH, body, read)

    def counted(self, output: Output) -> Output:
        """Return an output that says what they took."""
        return replace(output, n_logprob_prompt_tokens=self.used.n_prompt_tokens,
                       n_logprob_output_tokens=self.used.n_output_tokens)


class TokenCounter:
    """Counts with a tokenizer, where there is one. ``lock`` is held while the tokenizer works."""

    def __init__(self, tokenizer: Any) -> None:
        """``tokenizer``: None where there is none."""
        self._tokenizer = tokenizer
        self.lock = threading.Lock()
        self._said = False

    def usage(self, request: Request, ids: Sequence[int] | None, answer: Completion) -> Usage:
        """Return what a request took. ``ids``: the prompt's tokens, where it was sent as such."""
        prompt, output = answer.n_prompt_tokens, answer.n_output_tokens
        if prompt is None and ids is not None:
            prompt = len(ids)
        if prompt is not None and output is not None:
            return Usage(prompt, output, answer.n_cached_tokens)
        if not self._said:
            self._said = True
            log.warning("An endpoint does not say, or not plausibly, how many tokens an answer took ('usage'). They "
                        "are reckoned here, %s, and what counts them says so.", "with the tokenizer" if self._tokenizer
                        else f"at {_BYTES_A_TOKEN} bytes a token, as no tokenizer is named")
        if prompt is None:
            prompt = self._count(request.prompt, chat=request.chat)
        if output is None:
            output = self._count(answer.text) if answer.text else 0
        return Usage(prompt, output, answer.n_cached_tokens, estimated=True)

    def _count(self, text: str, *, chat: bool = False) -> int:
        if self._tokenizer is None:
            return -(-len(text.encode("utf-8", "surrogatepass")) // _BYTES_A_TOKEN)
        chat = chat and bool(self._tokenizer.chat_template)  # else the server has one, of which nothing is known here
        with self.lock:
            return len(encode_prompt(self._tokenizer, text.encode("utf-8", "replace").decode(), chat))
