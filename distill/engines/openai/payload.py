"""A request as an endpoint gets it; what comes back is read in :mod:`distill.engines.openai.responses`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distill.engines.base import Request, Sampling

PLAIN_SAMPLING = {"top_k": 0, "min_p": 0.0}
"""What the model's folder may set on the server's side, and no other engine obeys."""


def top_fields(k: int) -> dict[str, Any]:
    """Return the fields that ask for the ``k`` likeliest tokens at each token of the answer, by their ids."""
    return {"logprobs": k, "return_tokens_as_token_ids": True}


@dataclass(frozen=True)
class Dialect:
    """What the servers are called and understand. ``end_ids``: tokens that end an answer (vLLM only).

    ``fields`` stand in every request over ours; None takes a field out.
    """

    model: str
    is_vllm: bool
    end_ids: tuple[int, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def max_tokens(self, sampling: Sampling) -> int:
        """Return how many tokens an answer may take; where that is taken out of the requests, what is meant by it."""
        for name in ("max_completion_tokens", "max_tokens"):
            if isinstance(limit := self.fields.get(name), int):
                return limit
        return sampling.max_tokens

    def body(self, request: Request, ids: list[int] | None, with_line: bool) -> tuple[str, dict[str, Any]]:
        """Return the path and the body for a request: as token ids where there are any, else as text.

        ``with_line``: the answer ends at the first newline.
        """
        sampling = request.sampling
        stop = [*sampling.stop, *(["\n"] if with_line else [])]
        body: dict[str, Any] = {
            "model": self.model, "max_tokens": sampling.max_tokens, "temperature": sampling.temperature,
            "top_p": sampling.top_p, **({"stop": stop} if stop else {}),
            **({"seed": request.seed} if sampling.temperature > 0 else {})}
        if self.is_vllm:
            if sampling.repetition_penalty is not None:  # else the server's own counts
                body["repetition_penalty"] = sampling.repetition_penalty
            body |= PLAIN_SAMPLING | ({"stop_token_ids": list(self.end_ids)} if self.end_ids else {})
            if request.choices:
                body["structured_outputs"] = {"choice": list(request.choices)}
            elif request.pattern:
                body["structured_outputs"] = {"regex": request.pattern}
        body = {name: value for name, value in {**body, **self.fields}.items() if value is not None}
        if ids is not None:
            return "/completions", body | {"prompt": ids} | (top_fields(request.top_k) if request.top_k else {})
        if request.chat:
            if self.chat_template_kwargs:
                body["chat_template_kwargs"] = dict(self.chat_template_kwargs)
            return "/chat/completions", body | {"messages": [{"role": "user", "content": request.prompt}]}
        return "/completions", body | {"prompt": request.prompt}
