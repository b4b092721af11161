"""Models behind servers that speak OpenAI's protocol (``vllm serve`` and others)."""

import contextlib
import logging
import queue
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from distill.config import schema
from distill.engines.base import Done, Engine, Output, Request, Sampling
from distill.engines.encoding import (
    answer_length,
    encode_request,
    failed_output,
    given_answer,
    names_of,
)
from distill.engines.first_line import first_line_end
from distill.engines.label_tree import MOST_AT_ONCE, LabelTree, finite, request_tree, tree_behind
from distill.engines.openai import label_scores, top_scores
from distill.engines.openai.backoff import Backoff
from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.payload import Dialect
from distill.engines.openai.quarantine import ENOUGH, Quarantine
from distill.engines.openai.responses import Completion, listed, read_completion
from distill.engines.openai.servers import Servers
from distill.engines.openai.top_scores import WrittenTokens
from distill.engines.openai.usage import CountedRequests, TokenCounter
from distill.errors import InputError, RunError
from distill.models.tokenization import encode_prompt

log = logging.getLogger("sentidistill.engines")
T = TypeVar("T")
_SIGN_SECONDS = 1.0
_NO_LIMIT = 1 << 62


class OpenAIEngine(Engine):
    """See :class:`distill.engines.base.Engine`. Requests run in an event loop in a thread of its own."""

    name = "openai"

    def __init__(self, config: schema.OpenAIEngine, folder: Path | None = None,
                 backoff: Backoff = Backoff()) -> None:  # noqa: B008
        """Ask the endpoints whether they have the model, and wait a while for the first that answers.

        Raises:
            InputError: an address, the key, the name of the model or the tokenizer is wrong.
            ProcessDiedError: no endpoint answers.
        """
        self._servers = servers = Servers(config, backoff)
        self._model, self._key, self._pool = servers.model, servers.key, servers.pool
        self._tokenizer, self._end_ids, self.max_model_len = servers.tokenizer, servers.end_ids, servers.max_model_len
        self._sends_tokens = config.send_tokens and self._tokenizer is not None
        self._backoff = backoff
        self._others = sorted({entry.owned_by for entry in self._pool.entries()} - {"vllm"})
        self._dialect = Dialect(self._model, not self._others, self._end_ids if self._sends_tokens else (),
                                config.sampling_params, config.chat_template_kwargs)
        self._quarantine = Quarantine()
        self._counter = TokenCounter(self._tokenizer)

    def answer(self, requests: Iterable[Request], done: Done) -> None:
        """Answer a stream of requests; see :class:`distill.engines.base.Engine`.

        Raises:
            InputError: no prompt is answered with these settings; or the address, the key or the model is wrong.
            ProcessDiedError: no endpoint could be asked for longer than the outage timeout.
        """
        stream, more = iter(requests), True
        ended: queue.SimpleQueue[Future[Output]] = queue.SimpleQueue()
        running: set[Future[Output]] = set()
        try:
            while more or running:
                while more and len(running) < self._pool.capacity:
                    request = next(stream, None)
                    if request is None:
                        more = False
                    elif isinstance(work := self._prepared(request), Output):
                        done([work])
                    else:
                        running.add(future := self._servers.submit(work))
                        future.add_done_callback(ended.put)
                outputs, failure = [], None
                for future in _ended(ended) if running else ():
                    running.discard(future)
                    try:
                        outputs.append(future.result())
                    except (InputError, RunError) as error:
                        failure = error
                done(self._quarantine.certain(outputs))  # of none, too: a sign of life
                if failure:
                    raise failure
                if len(self._quarantine.held) >= ENOUGH or (self._quarantine.held and not (more or running)):
                    self._resolve_quarantine(done)
        finally:
            for future in running:
                future.cancel()

    def count_tokens(self, prompts: Sequence[str], chat: bool = False) -> list[int]:
        """Return the number of tokens each prompt takes, chat template included where ``chat``.

        Raises:
            InputError: the config names no tokenizer; the protocol has none.
        """
        if self._tokenizer is None:
            raise InputError("An endpoint does not count tokens. Set the engine's 'tokenizer' to a model with the same "
                             "one, by its name or folder.")
        return [len(encode_prompt(self._tokenizer, prompt, chat)) for prompt in prompts]

    def token_names(self, ids: Sequence[int]) -> list[str]:
        """Return what the tokenizer calls tokens.

        Raises:
            InputError: the config names none.
        """
        return names_of(self._tokenizer, ids) if self._tokenizer is not None else super().token_names(ids)

    def check_token_counts(self, sampling: Sampling, chat: bool) -> None:
        """See that tokens can be told; see :class:`distill.engines.base.Engine`. A tokenizer can."""
        if self._tokenizer is None:
            super().check_token_counts(sampling, chat)

    def check_label_logprobs(self) -> None:
        """Ask each endpoint how likely some tokens are; see :class:`distill.engines.base.Engine`.

        Raises:
            InputError: one does not say it, or prompts are sent as text.
            ProcessDiedError: none has an answer.
        """
        if not self._sends_tokens:
            raise InputError("An endpoint is asked with token ids how likely labels are. Set the engine's 'tokenizer' "
                             "to a model with the same one, and send_tokens to true.")
        tokens = range(min(MOST_AT_ONCE, len(self._tokenizer)))
        ids = encode_prompt(self._tokenizer, "Hello", chat=False)
        self._servers.run(label_scores.check(self._pool, self._model, ids, tokens, self._backoff))

    def check_top_logprobs(self, k: int) -> None:
        """Ask each endpoint for the ``k`` likeliest tokens; see :class:`distill.engines.base.Engine`.

        Raises:
            InputError: one does not say them, prompts are sent as text, or the vocabulary has fewer.
            ProcessDiedError: none has an answer.
        """
        if not self._sends_tokens:
            raise InputError("An endpoint is asked with token ids what else a token might have been. Set the engine's "
                             "'tokenizer' to a model with the same one, and send_tokens to true.")
        if k > (size := len(self._tokenizer)):
            raise InputError(f"teacher.logprobs.top_k is {k}, but the tokenizer of the engine 'openai' knows {size} "
                             "tokens. Lower it; 20 is usual.")
        self._servers.run(top_scores.check(self._pool, self._model, self._tokenizer, k, self._backoff))

    def close(self) -> None:
        """Close the connections."""
        self._servers.close()

    def _resolve_quarantine(self, done: Done) -> None:
        """Ask a harmless prompt as the last one that failed was asked, and tell the failures if it is answered.

        Raises:
            InputError: it is not.
        """
        assert self._quarantine.request
        work = self._prepared(replace(self._quarantine.request, prompt="Hello"))
        if not isinstance(work, Output):
            future = self._servers.submit(work)
            while not wait([future], _SIGN_SECONDS).done:
                done([])
            work = future.result()
        if work.error:
            raise self._quarantine.error()
        done(self._quarantine.release())

    def _prepared(self, request: Request) -> Output | Coroutine[Any, Any, Output]:
        """Return the work that a request is, or the output of one that cannot be asked."""
        if (request.choices or request.pattern) and self._others:
            raise InputError("Only 'vllm serve' can be told what an answer may look like; these endpoints are served "
                             f"by {listed(self._others)}. Set structured to false, or serve the model with vLLM.")
        wants_answer = request.sampling.max_tokens > 0
        if self._sends_tokens:
            room, limit = self._dialect.max_tokens(request.sampling), self.max_model_len or _NO_LIMIT
            with self._counter.lock:
                encoded = encode_request(self._tokenizer, request, limit, room if wants_answer else 0)
                tree = tree_behind(encoded, request_tree(self._tokenizer, request, self._end_ids), limit)
                given = [] if encoded.error or request.answer is None else given_answer(self._tokenizer, request)
            if encoded.error:
                return failed_output(request, encoded)
            if given and len(encoded.ids) + len(given) < limit:
                return self._read(request, encoded.ids, given, Output(request.id, "", "stop", len(encoded.ids), 0))
            if tree:
                return self._scored(request, encoded.ids, tree)
            nothing = Output(request.id, "", "stop", len(encoded.ids), 0)
            return self._answer(request, encoded.ids, encoded.opening) if wants_answer else nothing
        try:
            request.prompt.encode()
        except UnicodeEncodeError:
            return Output(request.id, "", "error", 0, 0, "not_encodable")
        if not request.prompt:
            return Output(request.id, "", "error", 0, 0, "empty_prompt")
        return self._answer(request, None) if wants_answer else Output(request.id, "", "stop", 0, 0)

    async def _scored(self, request: Request, ids: list[int], tree: LabelTree) -> Output:
        """Return the answer, where one is wanted, with how likely the labels are; without, where just that fails."""
        output = Output(request.id, "", "stop", len(ids), 0)
        way = label_scores.AnswersWay(tree)
        if request.sampling.max_tokens:
            output = await self._answer(request, ids, way=way if self._are_plain(request) else None)
        if output.error:
            return output
        requests = CountedRequests(self._pool)
        try:
            found = finite(await label_scores.tree_logprobs(requests, self._model, ids, tree, way.after))
        except (RejectedError, TransientError) as error:
            log.warning("An endpoint did not say how likely the labels of a prompt are (%s). It has an answer, and no "
                        "distribution.", error)
            found = ()
        return requests.counted(replace(output, label_logprobs=found))

    def _are_plain(self, request: Request) -> bool:
        """Say whether an answer's log-probabilities are the model's, however the server takes them (--logprobs-mode).

        Those of the likeliest tokens are asked of it by themselves.
        """
        sampling = request.sampling
        return not (request.is_structured or request.top_k or sampling.temperature or self._dialect.fields
                    or sampling.repetition_penalty != 1)

    async def _read(self, request: Request, ids: list[int], answer: list[int], output: Output) -> Output:
        """Return an output with what else the tokens of an answer, which is there, might have been."""
        requests = CountedRequests(self._pool)
        try:
            async with self._servers.reading:
                found = await top_scores.given_likeliest(requests, self._model, ids, answer, request.top_k)
        except (RejectedError, TransientError) as error:
            log.warning("An endpoint did not say what else the tokens of an answer might have been (%s). The answer "
                        "stays, without its log-probabilities.", error)
            return requests.counted(output)
        return requests.counted(replace(output, top_logprobs=top_scores.record(answer, found)))

    async def _answer(self, request: Request, ids: list[int] | None, opening: str = "",
                      way: label_scores.AnswersWay | None = None) -> Output:
        failed = Output(request.id, "", "error", len(ids or ()), 0)
        try:
            answer, written = await self._ask(request, ids, request.sampling.first_line, way)
            used = self._counter.usage(request, ids, answer)
            if request.sampling.first_line and self._may_go_on(answer, opening):
                answer, written = await self._ask(request, ids, with_line=False, way=way)
                used += self._counter.usage(request, ids, answer)
        except (RejectedError, TransientError) as error:
            if error.reason not in ("prompt_too_long", "content_filter"):
                self._quarantine.because(request, str(error))
            return replace(failed, error=error.reason)
        text, reason = opening + self._key.hidden_in_answer(answer.text), answer.finish_reason
        counts: dict[str, Any] = {
            "n_prompt_tokens": used.n_prompt_tokens, "n_output_tokens": used.n_output_tokens,
            "n_cached_tokens": used.n_cached_tokens, "counts_estimated": used.estimated}
        if reason == "content_filter":
            return replace(failed, error=reason, **counts)
        if not reason:  # the server does not say why it ended
            reason = "length" if used.n_output_tokens >= self._dialect.max_tokens(request.sampling) else "stop"
        for stop in request.sampling.stop:  # a server that was not told of it, or does not know any
            if stop in text:
                text, reason = text.partition(stop)[0], "stop"
        if request.sampling.first_line and (end := first_line_end(text)) is not None:
            text, reason = text[:end], "stop"
        if reason == "length":  # a character of several tokens, cut in the middle
            text = text.rstrip("\ufffd")
        output = Output(request.id, text, reason, **counts)
        return await self._with_top(request, ids or [], output, written, opening) if written else output

    async def _ask(self, request: Request, ids: list[int] | None, with_line: bool, way: label_scores.AnswersWay | None
                   ) -> tuple[Completion, WrittenTokens | None]:
        """Return an answer, and what else its tokens might have been, where that is wanted; ``way`` takes its own."""
        path, body = self._dialect.body(request, ids, with_line)
        k = request.top_k if ids is not None else 0

        def read(reply: dict[str, Any]) -> tuple[Completion, WrittenTokens | None]:
            answer = read_completion(reply)
            if way:
                way.read(reply)
            return answer, top_scores.read_written(reply, 0 if request.is_structured else k) if k else None

        return await self._pool.ask(path, body | way.fields() if way else body, read)

    async def _with_top(self, request: Request, ids: list[int], output: Output, written: WrittenTokens, opening: str
                        ) -> Output:
        with self._counter.lock:
            count = answer_length(self._tokenizer, written.ids, output.text, output.finish_reason, self._end_ids,
                                  opening)
        if count and not written.likeliest:
            return await self._read(request, ids, written.ids[:count], output)
        return replace(output, top_logprobs=top_scores.record(written.ids[:count], written.likeliest[:count]))

    def _may_go_on(self, answer: Completion, opening: str) -> bool:
        """Say whether a newline ended the answer that does not end its first line: a blank one, or in reasoning."""
        if answer.finish_reason not in ("stop", ""):
            return False
        at_newline = answer.stopped_by == "\n" or (answer.stopped_by is None and not self._dialect.is_vllm)
        return at_newline and first_line_end(f"{opening}{answer.text}\n") is None


def _ended(waiting: "queue.SimpleQueue[Future[Output]]") -> list[Future[Output]]:
    """Return what has ended; nothing, where nothing ends within a second."""
    found: list[Future[Output]] = []
    with contextlib.suppress(queue.Empty):
        found.append(waiting.get(timeout=_SIGN_SECONDS))
        while True:
            found.append(waiting.get_nowait())
    return found
