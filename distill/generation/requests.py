"""Prompts as an engine is asked them, and its outputs as they are written down."""

from dataclasses import replace
from typing import Any

from distill.engines.base import Output, Request, Sampling
from distill.errors import RunError
from distill.run.records import Prompt, Response


def sampling_of(settings: dict[str, Any], family: str) -> Sampling:
    """Return how a family of prompts is decoded (``settings``: :func:`distill.generation.run.settings_of`)."""
    sampling = settings["sampling"][family]
    return Sampling(**{**sampling, "stop": tuple(sampling["stop"])})


def request_of(prompt: Prompt, settings: dict[str, Any], *, labels: bool = False, top_k: int = 0,
               answered: Response | None = None) -> Request:
    """Return the request of a prompt, which has no answer yet, or has been ``answered``.

    ``labels``: for the distribution over its labels, too; ``top_k``: for the log-probabilities of so many tokens at
    each of the answer's.

    Raises:
        RunError: its family does not belong to the stage.
    """
    from distill.engines.grammar import structure_of

    if prompt.family not in settings["sampling"]:
        raise RunError(f"The prompt {prompt.id} is of the family '{prompt.family}', which does not belong to this "
                       f"stage ({', '.join(settings['sampling'])}). Run the prompts stage again.")
    chat = settings["chat_template"][prompt.family]
    choices, pattern = structure_of(prompt, chat) if settings["structured"] and not answered else ((), "")
    sampling = sampling_of(settings, prompt.family)
    request = Request(prompt.id, prompt.prompt, sampling, chat=chat, seed=prompt.seed, choices=choices, pattern=pattern,
                      labels=tuple(prompt.labels) if labels else (), top_k=top_k)
    if answered is None:
        return request
    ended = answered.finish_reason == "stop" and not sampling.stop  # a stop string ends an answer without a token
    return replace(request, sampling=replace(sampling, max_tokens=0), answer=answered.output if top_k else None,
                   ended=ended)


def response_of(output: Output) -> Response:
    """Return what is written down of an output."""
    failure = (output.error or "error") if output.finish_reason == "error" else _unwritable(output.text)
    return Response(output.id, "" if failure else output.text, output.finish_reason, output.n_prompt_tokens,
                    output.n_output_tokens, failure, output.counts_estimated)


def _unwritable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, which Parquet cannot hold
        return "invalid_unicode"
    return ""
