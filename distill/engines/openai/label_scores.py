"""How likely labels are, asked of a server: a request for each node of their tree (:mod:`distill.engines.label_tree`).

The prompt and the tokens down to a node go as token ids, and the server is asked how likely certain tokens are after
them (``logprob_token_ids`` of ``vllm serve``). Top log-probabilities would leave unlikely labels out, and a chat cannot
be made to begin its answer with a label's tokens: servers that have no more are refused before the first prompt.
"""

import asyncio
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from distill.engines.label_tree import ROOT, LabelTree
from distill.engines.openai.backoff import Backoff
from distill.engines.openai.endpoint import Endpoint
from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.payload import PLAIN_SAMPLING
from distill.engines.openai.pool import Pool
from distill.engines.openai.responses import printable
from distill.errors import InputError, ProcessDiedError

PATH = "/completions"
MOST_AT_ONCE = 128
"""Tokens of one request: vLLM's bound on logprob_token_ids."""
_ID = "token_id:"
_LOWEST = -9999.0  # what vLLM sends for minus infinity, which JSON has not
_ROUNDING = 1e-3
_TRIES = 3
_NEEDS = ("Distributions over labels (teacher.logprobs.labels) need a server that takes token ids and gives the "
          "log-probability of any token it is asked (logprob_token_ids, return_tokens_as_token_ids), as a 'vllm serve' "
          "of today does. Serve the teacher with that, use the engine vllm or transformers, or set "
          "teacher.logprobs.labels to false.")


async def tree_logprobs(pool: Pool, model: str, ids: list[int], tree: LabelTree) -> tuple[float, ...]:
    """Return the log-probabilities of a prompt's labels.

    Raises:
        InputError: an endpoint gives others than were asked.
        RejectedError, TransientError, ProcessDiedError: as :meth:`Pool.ask`.
    """
    after: dict[int, dict[int, float]] = {}

    async def ask(node: int) -> None:
        wanted = tree.wanted(node)
        after[node] = {}
        for start in range(0, len(wanted), MOST_AT_ONCE):
            some = wanted[start:start + MOST_AT_ONCE]
            after[node] |= await pool.ask(PATH, question(model, [*ids, *tree.prefix(node)], some),
                                          partial(read_logprobs, tokens=some))

    await ask(ROOT)  # the others then find the prompt in the server's prefix cache
    others = [asyncio.ensure_future(ask(node)) for node in range(len(tree.tokens))]
    try:
        await asyncio.gather(*others)
    finally:
        for other in others:
            other.cancel()
    return tree.logprobs(after)


def question(model: str, ids: Sequence[int], tokens: Sequence[int]) -> dict[str, Any]:
    """Return the body that asks how likely each of some tokens is after others."""
    return {"model": model, "prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "repetition_penalty": 1.0,
            **PLAIN_SAMPLING, "logprobs": len(tokens), "logprob_token_ids": list(tokens),
            "return_tokens_as_token_ids": True}


def read_logprobs(reply: dict[str, Any], tokens: Sequence[int]) -> dict[int, float]:
    """Return the log-probability of each of the tokens; minus infinity and NaN are such.

    Raises:
        InputError: the answer has none, has tokens as text, lacks some, or what it has are no log-probabilities.
    """
    choices: Any = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    given = choice.get("logprobs")
    top = given.get("top_logprobs") if isinstance(given, dict) else None
    found = top[0] if isinstance(top, list) and top else None
    if not isinstance(found, dict) or not found:
        raise _unable("it gives no log-probabilities")
    told = {name: value for name, value in found.items() if name.startswith(_ID)}
    if not told:
        raise _unable(f"it names tokens by their text ({printable(list(found)[:3])}), which several can have")
    values = {token: told.get(f"{_ID}{token}") for token in tokens}
    if missing := sum(value is None for value in values.values()):
        raise _unable(f"of {len(tokens)} log-probabilities that it was asked, it leaves {missing} out")
    if not all(isinstance(value, int | float) and not isinstance(value, bool) and not value > _ROUNDING
               for value in values.values()):
        raise _unable("what it gives are no logarithms of probabilities")
    return {token: -math.inf if value <= _LOWEST else float(value) if math.isnan(value) else min(0.0, value)
            for token, value in values.items() if value is not None}


async def check(pool: Pool, model: str, ids: Sequence[int], tokens: Sequence[int], backoff: Backoff) -> None:
    """See that each endpoint that is well says how likely ``tokens`` are after ``ids``.

    Raises:
        InputError: one does not.
        ProcessDiedError: none has an answer.
    """
    said = await asyncio.gather(*(_check(endpoint, question(model, ids, tokens), backoff)
                                  for endpoint in pool.endpoints if not endpoint.unavailable))
    if all(said):
        raise ProcessDiedError(f"No endpoint says how likely labels are ({'; '.join(said)}). Run the same command "
                               "again.")


async def _check(endpoint: Endpoint, body: dict[str, Any], backoff: Backoff) -> str:
    """Return what is wrong with an endpoint that may pass, or nothing. Raises as :func:`check`."""
    last = ""
    try:
        for attempt in range(1, _TRIES + 1):
            try:
                found = read_logprobs(await endpoint.client.post(PATH, body), body["logprob_token_ids"])
            except TransientError as error:
                last = f"{endpoint.url}: {error}"
                await asyncio.sleep(backoff.after(attempt))
                continue
            if any(map(math.isnan, found.values())):
                raise _unable("some of its log-probabilities are no numbers (NaN)")
            if sum(map(math.exp, found.values())) > 1 + _ROUNDING:
                raise _unable("the probabilities it gives add up to more than 1")
            return ""
    except RejectedError as error:
        raise InputError(f"The endpoint {endpoint.url} cannot say how likely labels are: it refuses the question "
                         f"({error}). {_NEEDS}") from None
    except InputError as error:
        raise InputError(f"The endpoint {endpoint.url} cannot say how likely labels are: {error}") from None
    return last


def _unable(why: str) -> InputError:
    return InputError(f"{why}. {_NEEDS}")
