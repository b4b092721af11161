"""How likely labels are, asked of a server: a request for each node of their tree (:mod:`distill.engines.label_tree`),
but for those that the answer itself went through.

The prompt and the tokens down to a node go as token ids, and the server is asked how likely certain tokens are after
them (``logprob_token_ids`` of ``vllm serve``). Top log-probabilities would leave unlikely labels out, and a chat cannot
be made to begin its answer with a label's tokens: servers that have no more are refused before the first prompt.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from distill.engines import label_tree
from distill.engines.label_tree import MOST_AT_ONCE, ROOT, LabelTree
from distill.engines.openai.backoff import Backoff
from distill.engines.openai.endpoint import Endpoint
from distill.engines.openai.logprobs import (
    PATH,
    UnableError,
    at_token,
    beside_answer,
    check_endpoints,
    refuse_no_distribution,
    token_id,
)
from distill.engines.openai.payload import PLAIN_SAMPLING
from distill.engines.openai.pool import Pool
from distill.engines.openai.usage import CountedRequests
from distill.errors import InputError

_NEEDS = ("Distributions over labels (teacher.logprobs.labels) need a server that takes token ids and gives the "
          "log-probability of any token it is asked (logprob_token_ids, return_tokens_as_token_ids), as a 'vllm serve' "
          "of today does. Serve the teacher with that, use the engine vllm or transformers, or set "
          "teacher.logprobs.labels to false.")


class AnswersWay:
    """The nodes of the labels' tree that an answer goes through, of which it can tell itself: ``after`` says what."""

    def __init__(self, tree: LabelTree) -> None:
        self._tree = tree
        self.after: dict[int, dict[int, float]] = {}

    def fields(self) -> dict[str, Any]:
        """Return the fields of a request for an answer that ask for it."""
        tokens = label_tree.beside_answer(self._tree)
        return _asking(tokens) if tokens else {}

    def read(self, reply: dict[str, Any]) -> None:
        """Take what an answer tells; nodes of which it tells nothing of use are asked for by themselves."""
        given, self.after, node = beside_answer(reply), {}, ROOT
        tokens, top = given.get("tokens"), given.get("top_logprobs")
        if not isinstance(tokens, list) or not isinstance(top, list):
            return
        try:
            for name, found in zip(tokens, top, strict=False):
                values, wanted = at_token(found), self._tree.wanted(node)
                if not all(token in values for token in wanted):
                    return
                self.after[node] = {token: values[token] for token in wanted}
                child = self._tree.child(node, token_id(name))
                if child is None:
                    return
                node = child
        except UnableError:
            return


async def tree_logprobs(requests: CountedRequests, model: str, ids: list[int], tree: LabelTree,
                        known: Mapping[int, dict[int, float]]) -> tuple[float, ...]:
    """Return the log-probabilities of a prompt's labels; ``known``: what is known already after some nodes.

    Raises:
        InputError: an endpoint gives others than were asked.
        RejectedError, TransientError, ProcessDiedError: as :meth:`Pool.ask`.
    """
    after: dict[int, dict[int, float]] = dict(known)

    async def ask(node: int) -> None:
        wanted = [] if node in known else tree.wanted(node)
        after.setdefault(node, {})
        for start in range(0, len(wanted), MOST_AT_ONCE):
            some = wanted[start:start + MOST_AT_ONCE]
            after[node] |= await requests.ask(question(model, [*ids, *tree.prefix(node)], some),
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
            **PLAIN_SAMPLING, **_asking(tokens)}


def read_logprobs(reply: dict[str, Any], tokens: Sequence[int]) -> dict[int, float]:
    """Return the log-probability of each of the tokens; minus infinity and NaN are such.

    Raises:
        InputError: the answer has none, has tokens as text, lacks some, or what it has are no log-probabilities.
    """
    try:
        return _logprobs(reply, tokens)
    except UnableError as error:
        raise InputError(f"An endpoint cannot say how likely labels are: {error}. {_NEEDS}") from None


async def check(pool: Pool, model: str, ids: Sequence[int], tokens: Sequence[int], backoff: Backoff) -> None:
    """See that each endpoint that is well says how likely ``tokens`` are after ``ids``.

    Raises:
        InputError: one does not.
        ProcessDiedError: none has an answer.
    """
    async def ask(endpoint: Endpoint) -> None:
        found = _logprobs(await endpoint.client.post(PATH, question(model, ids, tokens)), tokens)
        refuse_no_distribution(list(found.values()))

    await check_endpoints(pool, ask, backoff, "how likely labels are", _NEEDS)


def _asking(tokens: Sequence[int]) -> dict[str, Any]:
    return {"logprobs": len(tokens), "logprob_token_ids": list(tokens), "return_tokens_as_token_ids": True}


def _logprobs(reply: dict[str, Any], tokens: Sequence[int]) -> dict[int, float]:
    top = beside_answer(reply).get("top_logprobs")
    found = at_token(top[0] if isinstance(top, list) and top else None)
    if missing := sum(token not in found for token in tokens):
        raise UnableError(f"of {len(tokens)} log-probabilities that it was asked, it leaves {missing} out")
    return {token: found[token] for token in tokens}
