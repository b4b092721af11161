"""A request as an endpoint gets it, and its answer as it comes back."""

from dataclasses import dataclass
from typing import Any

from distill.engines.base import Request
from distill.engines.endpoints.client import Fault

_BROKEN_OFF = {"abort", "error"}  # the server was stopped, or gave up, in the middle of the answer
# What the model's folder may set on the server's side, and no other engine obeys.
_PLAIN_SAMPLING = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class Answer:
    """What a server wrote. ``stopped_by`` is the stop string, where the server says which, else None."""

    text: str
    finish_reason: str
    n_prompt_tokens: int
    n_output_tokens: int
    n_cached_tokens: int
    stopped_by: Any


@dataclass(frozen=True)
class Dialect:
    """What the servers are called and understand. ``end_ids``: tokens that end an answer (vLLM only)."""

    model: str
    is_vllm: bool
    end_ids: tuple[int, ...] = ()

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
            body |= _PLAIN_SAMPLING | ({"stop_token_ids": list(self.end_ids)} if self.end_ids else {})
            if request.choices:
                body["structured_outputs"] = {"choice": list(request.choices)}
            elif request.pattern:
                body["structured_outputs"] = {"regex": request.pattern}
        if ids is not None:
            return "/completions", body | {"prompt": ids}
        if request.chat:
            return "/chat/completions", body | {"messages": [{"role": "user", "content": request.prompt}]}
        return "/completions", body | {"prompt": request.prompt}


def read_answer(reply: dict[str, Any]) -> Answer:
    """Return what stands in a server's answer.

    ``finish_reason`` is ``stop``, ``length`` or ``content_filter``.

    Raises:
        Fault: it is not of the expected form, or was broken off.
    """
    try:
        choice = reply["choices"][0]
        text = (choice["message"]["content"] if "message" in choice else choice["text"]) or ""
        reason, usage = choice.get("finish_reason"), reply.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        counts = [int(part.get(key) or 0) for part, key in (
            (usage, "prompt_tokens"), (usage, "completion_tokens"), (details, "cached_tokens"))]
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Fault("bad_answer", f"an answer of another form than the protocol's ({type(error).__name__})") from error
    if not isinstance(text, str):
        raise Fault("bad_answer", "an answer whose text is none")
    if reason in _BROKEN_OFF:
        raise Fault("server_error", f"an answer that was broken off (finish_reason {reason})")
    kept = reason if reason in ("length", "content_filter") else "stop"
    return Answer(text, kept, *counts, choice.get("stop_reason"))
