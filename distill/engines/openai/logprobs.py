"""Log-probabilities as a server writes them: nothing of them is believed to have the form or the values it should.

Tokens are known by their ids, which a server gives where it is asked to (``return_tokens_as_token_ids``): several can
have one text.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from distill.engines.openai.backoff import Backoff
from distill.engines.openai.endpoint import Endpoint
from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.pool import Pool
from distill.engines.openai.responses import printable
from distill.errors import InputError, ProcessDiedError

PATH = "/completions"
ROUNDING = 1e-3
"""By so much a logarithm of a probability may be above 0, and a sum of probabilities above 1."""
_ID = "token_id:"
_LOWEST = -9999.0  # what vLLM sends for minus infinity, which JSON has not
_MOST_IDS = 1 << 31
_DIGITS = 10
_TRIES = 3


class UnableError(Exception):
    """A server does not give what it was asked; the message says what it lacks."""


def beside_answer(reply: dict[str, Any]) -> dict[str, Any]:
    """Return what an answer says of its tokens' log-probabilities; nothing where it says nothing."""
    given = first_choice(reply).get("logprobs")
    return given if isinstance(given, dict) else {}


def first_choice(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the first answer in a reply, without any field where there is none."""
    choices: Any = reply.get("choices")
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}


def token_id(name: Any) -> int:
    """Return the id of a token that a server names.

    Raises:
        UnableError: it names the token by its text, or the id can be none.
    """
    if not isinstance(name, str) or not name.startswith(_ID):
        raise UnableError(f"it names tokens by their text ({printable([name])}), which several can have")
    return _number(name.removeprefix(_ID))


def at_token(found: Any) -> dict[int, float]:
    """Return the log-probabilities at one token of an answer by token id; minus infinity and NaN are such.

    Raises:
        UnableError: there are none, tokens are named by their text alone, or the values are no log-probabilities.
    """
    if not isinstance(found, dict) or not found:
        raise UnableError("it gives no log-probabilities")
    told = {name: value for name, value in found.items() if name.startswith(_ID)}
    if not told:
        raise UnableError(f"it names tokens by their text ({printable(list(found)[:3])}), which several can have")
    return {token_id(name): logprob(value) for name, value in told.items()}


def at_prompt_token(found: Any) -> dict[int, tuple[float, str | None]]:
    """Return the log-probabilities at one token of a prompt by token id, and what the server calls each token.

    Raises:
        UnableError: as :func:`at_token`.
    """
    if not isinstance(found, dict) or not found or not all(isinstance(item, dict) for item in found.values()):
        raise UnableError("it gives no log-probabilities of a prompt's tokens (prompt_logprobs)")
    return {_number(name): (logprob(item.get("logprob")), name_of(item)) for name, item in found.items()}


def name_of(item: dict[str, Any]) -> str | None:
    """Return the text of a token, where a server says it."""
    text = item.get("decoded_token")
    return text if isinstance(text, str) else None


def logprob(value: Any) -> float:
    """Return a value as a log-probability; minus infinity and NaN are such.

    Raises:
        UnableError: it can be none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or value > ROUNDING:
        raise UnableError("what it gives are no logarithms of probabilities")
    return -math.inf if value <= _LOWEST else float(value) if math.isnan(value) else min(0.0, value)


def refuse_no_distribution(values: list[float]) -> None:
    """Raise where log-probabilities of some of a vocabulary's tokens cannot be those of one distribution.

    Raises:
        UnableError: some are NaN, or they add up to more than 1.
    """
    if any(map(math.isnan, values)):
        raise UnableError("some of its log-probabilities are no numbers (NaN)")
    if sum(map(math.exp, values)) > 1 + ROUNDING:
        raise UnableError("the probabilities it gives add up to more than 1")


async def check_endpoints(pool: Pool, ask: Callable[[Endpoint], Awaitable[None]], backoff: Backoff, what: str,
                          needs: str) -> None:
    """Have each endpoint that is well asked, by ``ask``, whether it says ``what``; that raises UnableError.

    Raises:
        InputError: one does not say it; ``needs`` says what can be done.
        ProcessDiedError: none has an answer.
    """
    said = await asyncio.gather(*(_check(endpoint, ask, backoff, what, needs)
                                  for endpoint in pool.endpoints if not endpoint.unavailable))
    if all(said):
        raise ProcessDiedError(f"No endpoint says {what} ({'; '.join(said)}). Run the same command again.")


async def _check(endpoint: Endpoint, ask: Callable[[Endpoint], Awaitable[None]], backoff: Backoff, what: str,
                 needs: str) -> str:
    """Return what is wrong with an endpoint that may pass, or nothing. Raises as :func:`check_endpoints`."""
    last = ""
    for attempt in range(1, _TRIES + 1):
        try:
            await ask(endpoint)
            return ""
        except TransientError as error:
            last = f"{endpoint.url}: {error}"
            await asyncio.sleep(backoff.after(attempt))
        except (RejectedError, UnableError) as error:
            why = f"it refuses the question ({error})" if isinstance(error, RejectedError) else str(error)
            raise InputError(f"The endpoint {endpoint.url} cannot say {what}: {why}. {needs}") from None
    return last


def _number(digits: str) -> int:
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS else _MOST_IDS
    if number >= _MOST_IDS:
        raise UnableError(f"it names a token that can be none ({printable(digits, 40)})")
    return number
