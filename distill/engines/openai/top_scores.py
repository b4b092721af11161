"""The likeliest tokens at each token of an answer, asked of a server: with the answer, or of one that is there already.

With the answer they come as ``logprobs``. Of one that is there, its tokens go behind those of the prompt, and the
server reads both (``prompt_logprobs`` of ``vllm serve``). It does so without its prefix cache, and holds the
log-probabilities of the whole vocabulary at many tokens of a prompt at once, in float32, in memory that no profile of
vLLM's reckons with. Through HTTP, the other way, a request a token as the engine ``vllm`` asks itself, would send the
prompt as often as the answer has tokens; so it is this one, with few requests at a time (:data:`MOST_AT_ONCE`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from distill.engines.openai.backoff import Backoff
from distill.engines.openai.endpoint import Endpoint
from distill.engines.openai.logprobs import (
    PATH,
    UnableError,
    at_prompt_token,
    at_token,
    beside_answer,
    check_endpoints,
    first_choice,
    refuse_no_distribution,
    token_id,
)
from distill.engines.openai.payload import PLAIN_SAMPLING, top_fields
from distill.engines.openai.pool import Pool
from distill.engines.openai.usage import CountedRequests
from distill.errors import InputError
from distill.run.top_logprobs import TopLogprobs, top_logprobs

T = TypeVar("T")

MOST_AT_ONCE = 4
"""Requests of each endpoint that have a server read a prompt and an answer."""
Likeliest = tuple[list[int], list[float]]
"""At one token: the ids of the likeliest, the likeliest first, and their log-probabilities."""
_WARM, _NOISE = 2.0, 0.05
_SHOWN = 3
_WHAT = "what else a token might have been"
NEEDS = ("The likeliest tokens (teacher.logprobs.top_k) need a server that takes token ids, names tokens by theirs "
         "(return_tokens_as_token_ids) and gives so many log-probabilities at each token of an answer (logprobs) and "
         "of a prompt (prompt_logprobs), before temperature, as 'vllm serve' does (--max-logprobs: 20 unless that is "
         "set). Serve the teacher with that, lower teacher.logprobs.top_k, use the engine vllm or transformers, or set "
         "teacher.logprobs.top_k to null.")


@dataclass(frozen=True)
class WrittenTokens:
    """The tokens of an answer, and the likeliest at each.

    None of these where they are to be asked in a request of their own: beside an answer that a grammar holds, vLLM
    gives those after the grammar; and where another request of its batch asks how likely certain tokens are
    (``logprob_token_ids``), it gives (0.32) nothing but the token that was written and one of no probability.
    """

    ids: list[int]
    likeliest: list[Likeliest]


async def given_likeliest(requests: CountedRequests, model: str, ids: list[int], answer: list[int], k: int,
                          needs: str = NEEDS) -> list[Likeliest]:
    """Return the ``k`` likeliest tokens at each token of an answer behind a prompt.

    Raises:
        InputError: an endpoint gives others than were asked; ``needs`` says what can be done.
        RejectedError, TransientError, ProcessDiedError: as :meth:`Pool.ask`.
    """
    return await requests.ask(question(model, ids, answer, k), partial(_read, read=partial(
        _given, n_prompt=len(ids), n_answer=len(answer), k=k), needs=needs))


def question(model: str, ids: Sequence[int], answer: Sequence[int], k: int) -> dict[str, Any]:
    """Return the body that asks for the likeliest tokens at each of an answer's."""
    return {"model": model, "prompt": [*ids, *answer], "max_tokens": 1, "temperature": 0.0, "repetition_penalty": 1.0,
            **PLAIN_SAMPLING, "prompt_logprobs": k}


def read_written(reply: dict[str, Any], k: int) -> WrittenTokens:
    """Return the tokens that a server wrote, and the ``k`` likeliest at each; with ``k`` 0, the tokens alone.

    Raises:
        InputError: it gives fewer, names tokens by their text, or what it gives are no log-probabilities.
    """
    return _read(reply, partial(_written, k=k), NEEDS)


def record(tokens: Sequence[int], likeliest: Sequence[Likeliest]) -> TopLogprobs:
    """Return what is kept of an answer; nothing but its name where a log-probability is no number."""
    ids, values = ([place[part] for place in likeliest] for part in (0, 1))
    return top_logprobs("", tokens, ids, values)


async def check(pool: Pool, model: str, tokenizer: Any, k: int, backoff: Backoff, needs: str = NEEDS) -> None:
    """See that each endpoint that is well gives ``k`` tokens of the tokenizer's vocabulary wherever it is asked.

    Raises:
        InputError: one does not.
        ProcessDiedError: none has an answer.
    """
    ids = _samples(tokenizer)

    async def ask(endpoint: Endpoint) -> None:
        body = question(model, ids[:1], ids[1:], k) | top_fields(k)
        reply = await endpoint.client.post(PATH, body)
        cold = _written(reply, k).likeliest
        for _, values in [*_given(reply, 1, len(ids) - 1, k), *cold]:
            refuse_no_distribution(values)
        _refuse_other_names(reply, tokenizer)
        warm = _written(await endpoint.client.post(PATH, {**body, "temperature": _WARM, "seed": 0}), k).likeliest
        if not cold or not warm or max(abs(one - other) for one, other in zip(
                cold[0][1], warm[0][1], strict=True)) > _NOISE:
            raise UnableError("its log-probabilities depend on the temperature (--logprobs-mode of vLLM must be "
                              "raw_logprobs)")

    await check_endpoints(pool, ask, backoff, _WHAT, needs)


def _read(reply: dict[str, Any], read: Callable[[dict[str, Any]], T], needs: str) -> T:
    try:
        return read(reply)
    except UnableError as error:
        raise InputError(f"An endpoint cannot say {_WHAT}: {error}. {needs}") from None


def _written(reply: dict[str, Any], k: int) -> WrittenTokens:
    given = beside_answer(reply)
    tokens, top = given.get("tokens"), given.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(top, list) or len(tokens) != len(top):
        raise UnableError("it gives no log-probabilities")
    ids, places = [token_id(name) for name in tokens], [at_token(found) for found in top] if k else []
    if any(-math.inf in values.values() for values in places):
        return WrittenTokens(ids, [])
    return WrittenTokens(ids, [_likeliest(values, k) for values in places])


def _given(reply: dict[str, Any], n_prompt: int, n_answer: int, k: int) -> list[Likeliest]:
    places = first_choice(reply).get("prompt_logprobs")
    if not isinstance(places, list) or len(places) != n_prompt + n_answer:
        raise UnableError("it gives no log-probabilities of a prompt's tokens (prompt_logprobs)")
    return [_likeliest({token: value for token, (value, _) in at_prompt_token(found).items()}, k)
            for found in places[n_prompt:]]


def _likeliest(values: dict[int, float], k: int) -> Likeliest:
    """Return the likeliest tokens; the one that was written, or is the prompt's, may be told beside them."""
    if len(values) < k:
        raise UnableError(f"of the {k} likeliest tokens at a token, it gives {len(values)}")
    chosen = sorted(values, key=lambda token: -values[token])[:k]
    return chosen, [values[token] for token in chosen]


def _samples(tokenizer: Any, count: int = 48) -> list[int]:
    """Return tokens from all over a vocabulary."""
    special = set(tokenizer.all_special_ids)
    size = len(tokenizer)
    return [token for token in range(0, size, max(1, size // count)) if token not in special][:count]


def _refuse_other_names(reply: dict[str, Any], tokenizer: Any) -> None:
    """Raise where the server calls tokens otherwise than the tokenizer does.

    Raises:
        UnableError: see above.
    """
    named = {token: name for found in first_choice(reply)["prompt_logprobs"][1:]
             for token, (_, name) in at_prompt_token(found).items() if name}
    differ = [(token, name, ours) for token, name in sorted(named.items())
              if _plain(name) != _plain(ours := tokenizer.decode([token], clean_up_tokenization_spaces=False))
              and name.isascii() and ours.isascii()]
    if differ:
        shown = "; ".join(f"{token} is {name!r:.40} to the server and {ours!r:.40} to the tokenizer"
                          for token, name, ours in differ[:_SHOWN])
        raise UnableError(f"its model has another vocabulary than the tokenizer that the engine's 'tokenizer' names: "
                          f"of {len(named)} tokens, {len(differ)} differ ({shown})")


def _plain(name: str) -> str:
    return name.strip().lstrip("\u2581\u0120")
