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


def request_of(prompt: Prompt, settings: dict[str, Any], *, labels: bool = False, answer: bool = True) -> Request:
    """Return the request of a prompt: for its ``answer``, for the distribution over its ``labels``, or for both.

    Raises:
        RunError: its family does not belong to the stage.
    """
    from distill.engines.grammar import structure_of

    if prompt.family not in settings["sampling"]:
        raise RunError(f"The prompt {prompt.id} is of the family '{prompt.family}', which does not belong to this "
                       f"stage ({', '.join(settings['sampling'])}). Run the prompts stage again.")
    chat = settings["chat_template"][prompt.family]
    choices, pattern = structure_of(prompt, chat) if settings["structured"] and answer else ((), "")
    sampling = sampling_of(settings, prompt.family)
    return Request(prompt.id, prompt.prompt, sampling if answer else replace(sampling, max_tokens=0), chat=chat,
                   seed=prompt.seed, choices=choices, pattern=pattern, labels=tuple(prompt.labels) if labels else ())


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
