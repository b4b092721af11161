"""A model behind a server that speaks OpenAI's protocol (``vllm serve`` and others): answers, no label scores."""

import os
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import httpx

from distill.config.schema import EndpointEngine
from distill.engines.base import Done, LabelScores, Output, Request
from distill.engines.lines import line_end
from distill.errors import InputError, ProcessDiedError

_TRIES = 6
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}


class Endpoint:
    """See :class:`distill.engines.base.Engine`."""

    def __init__(self, config: EndpointEngine, wait: float = 1.0) -> None:
        """Ask the server whether it has the model. ``wait``: seconds before the second try; then doubled each time.

        Raises:
            InputError: the address, the key or the name of the model is wrong.
            ProcessDiedError: the server does not answer.
        """
        self.name = "endpoint"
        self._config, self._wait = config, wait
        key = os.environ.get(config.api_key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(
            timeout=httpx.Timeout(config.timeout, connect=10.0), headers=headers,
            limits=httpx.Limits(max_connections=config.concurrency))
        self._refusal = ""
        served = [model.get("id") for model in self._send("GET", "/models", None).json().get("data", [])]
        if config.model not in served:
            raise InputError(f"The endpoint {config.base_url} does not serve a model '{config.model}'. It serves: "
                             f"{', '.join(map(str, served)) or 'none'}.")

    def generate(self, requests: Sequence[Request], done: Done | None = None) -> list[Output]:
        """Answer every request, in the order given; see :class:`distill.engines.base.Engine`.

        Raises:
            InputError: the server refused every prompt.
            ProcessDiedError: the server stopped answering; what it had answered was told to ``done``.
        """
        found: dict[int, Output] = {}
        pool = ThreadPoolExecutor(self._config.concurrency)
        try:
            asked = {pool.submit(self._answer, request): place for place, request in enumerate(requests)}
            for future in as_completed(asked):
                found[asked[future]] = future.result()
                if done:
                    done([found[asked[future]]])
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if found and all(output.error == "refused" for output in found.values()):
            raise InputError(f"The endpoint {self._config.base_url} refused every prompt: {self._refusal}. A score of "
                             "such answers would say nothing of the model.")
        return [found[place] for place in range(len(requests))]

    def score_labels(
        self, requests: Sequence[Request], labels: Sequence[Sequence[str]], done: Done | None = None
    ) -> list[LabelScores]:
        """Not to be had: the protocol shows the likeliest tokens only, which need not be the labels.

        Raises:
            InputError: always.
        """
        raise InputError("An endpoint does not show the scores of labels. Set evaluate.classify to generate, which "
                         "lets the model write its label.")

    def count_tokens(self, prompts: Sequence[str], chat: bool = False) -> list[int]:
        """Not to be had: the protocol has no tokenizer.

        Raises:
            InputError: always.
        """
        raise InputError("An endpoint does not count tokens. Use the engine 'transformers' or 'vllm'.")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, request: Request) -> Output:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._config.model, "max_tokens": sampling.max_tokens, "temperature": sampling.temperature,
            "top_p": sampling.top_p, **({"stop": list(sampling.stop)} if sampling.stop else {}),
            **({"seed": request.seed % 2**31} if sampling.temperature > 0 else {})}
        if request.chat:
            path, body["messages"] = "/chat/completions", [{"role": "user", "content": request.prompt}]
        else:
            path, body["prompt"] = "/completions", request.prompt
        try:
            request.prompt.encode()
        except UnicodeEncodeError:
            return Output(request.id, "", "error", 0, 0, "not_encodable")
        response = self._send("POST", path, body)
        if response.status_code >= 400:
            self._refusal = f"status {response.status_code}, {response.text[:300]}"
            return Output(request.id, "", "error", 0, 0, "prompt_too_long" if _too_long(response) else "refused")
        choice, usage = response.json()["choices"][0], response.json().get("usage") or {}
        text = (choice["message"]["content"] if request.chat else choice["text"]) or ""
        reason = choice.get("finish_reason") or "stop"
        if sampling.first_line and (end := line_end(text)) is not None:
            text, reason = text[:end], "stop"
        return Output(request.id, text, reason, usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0))

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """Send, and try again where a failure may pass. What is wrong with one request (400, 413, 422) is returned."""
        failure = ""
        for attempt in range(_TRIES):
            try:
                response = self._client.request(method, self._config.base_url.rstrip("/") + path, json=body)
                if response.status_code < 400 or (body and response.status_code in (400, 413, 422)):
                    response.json()  # half a body, or a page of a proxy, is a failure, too
                    return response
                failure = f"status {response.status_code}"
                if response.status_code not in _PASSING:
                    raise InputError(f"The endpoint {self._config.base_url} refused {path} ({failure}). Check the "
                                     f"address, and the key in {self._config.api_key_variable}.")
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise InputError(f"'{self._config.base_url}' is not the address of an endpoint ({error}). Write it "
                                 "like http://host:8000/v1.") from error
            except (httpx.HTTPError, ValueError) as error:
                failure = type(error).__name__
            if attempt + 1 < _TRIES:
                time.sleep(self._wait * 2**attempt * random.uniform(0.7, 1.3))
        raise ProcessDiedError(f"The endpoint {self._config.base_url} does not answer ({failure} after {_TRIES} "
                               "tries). Is the server running? What was answered is kept: run the same command again "
                               "to go on.")


def _too_long(response: httpx.Response) -> bool:
    said = response.text.lower()
    return "context length" in said or "maximum model length" in said or "too long" in said
