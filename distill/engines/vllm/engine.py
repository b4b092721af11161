"""vLLM in this process, on GPU or CPU. Run it in one of its own (distill.runtime.process): memory then comes back."""

import contextlib
import gc
import importlib
import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config import schema
from distill.engines.base import Done, Engine, LabelScores, Output, Request
from distill.engines.encoding import (
    FIRST_TOKEN,
    Encoded,
    answer_end_ids,
    answer_text,
    encode_labels,
    encode_request,
    failed_output,
    failed_scores,
    label_scores,
)
from distill.engines.lines import line_end
from distill.engines.vllm.start import first_line, start
from distill.errors import InputError, ProcessDiedError
from distill.models import load_tokenizer
from distill.models.tokenization import encode_prompt
from distill.models.whole import refuse_incomplete

log = logging.getLogger("sentidistill.engines")
_MAX_LABELS_AT_ONCE = 128  # vLLM's bound on logprob_token_ids


class VllmEngine(Engine):
    """See :class:`distill.engines.base.Engine`."""

    name = "vllm"

    def __init__(self, config: schema.VllmEngine, folder: Path, processed_scores: bool = False) -> None:
        """Start vLLM on the model in ``folder``. Sets vLLM's environment variables where they are unset.

        ``processed_scores``: label scores are wanted after a repetition penalty, too.

        Raises:
            InputError: vLLM is not installed, or model or tokenizer are not whole.
            RunError: vLLM could not start.
        """
        if importlib.util.find_spec("vllm") is None:
            raise InputError("The engine 'vllm' is not installed. Install sentidistill with the extra [gpu] on a "
                             "machine with an NVIDIA GPU, or [cpu] on one without, or choose the engine "
                             "'transformers'.")
        self._tokenizer = load_tokenizer(folder)
        self._end_ids = answer_end_ids(self._tokenizer, folder)
        refuse_incomplete(folder)
        self._llm: Any = start(config, folder, processed_scores)
        self._limit: int = self._llm.llm_engine.model_config.max_model_len
        self._window = 2 * config.max_num_seqs

    def answer(self, requests: Iterable[Request], done: Done) -> None:
        """Answer a stream of requests; see :class:`distill.engines.base.Engine`.

        As many as vLLM runs at once are waiting behind those that run, so that it never waits for one.
        """
        stream, more, number = iter(requests), True, 0
        running: dict[str, _Asked] = {}
        try:
            while more or running:
                while more and len(running) < self._window:
                    request = next(stream, None)
                    if request is None:
                        more = False
                        break
                    item = encode_request(self._tokenizer, request, self._limit, request.sampling.max_tokens)
                    if item.error:
                        done([failed_output(request, item)])
                        continue
                    try:
                        self._add(str(number), item.ids, self._parameters(request, with_line=True))
                    except (ValueError, TypeError) as error:  # of this request; the others are well
                        log.warning("vLLM does not take the request %s (%s).", request.id, first_line(error))
                        done([Output(request.id, "", "error", len(item.ids), 0, "invalid_request")])
                        continue
                    running[str(number)] = _Asked(request, item, with_line=True)
                    number += 1
                outputs: list[Output] = []
                for result in self._step(len(running)) if running else ():
                    asked = running.pop(result.request_id)
                    output = self._output(asked.request, asked.encoded, result)
                    if asked.with_line and asked.request.sampling.first_line and _may_go_on(output, result):
                        # vLLM stopped at a blank line or within reasoning, where the first line is still to come
                        running[str(number)] = _Asked(asked.request, asked.encoded, with_line=False)
                        self._add(str(number), asked.encoded.ids, self._parameters(asked.request, with_line=False))
                        number += 1
                    else:
                        outputs.append(output)
                done(outputs)  # of none, too: a sign of life
        finally:
            if running:
                with contextlib.suppress(Exception):  # the engine may be what failed
                    self._llm.llm_engine.abort_request(list(running))

    def score_labels(
        self, requests: Sequence[Request], labels: Sequence[Sequence[str]], done: Done | None = None
    ) -> list[LabelScores]:
        """Score each request's labels; see :class:`distill.engines.base.Engine`."""
        asked = [encode_labels(self._tokenizer, item, request.chat)
                 for request, item in zip(requests, labels, strict=True)]
        encoded = [encode_request(self._tokenizer, request, self._limit, max(map(len, ids)) + 1)
                   for request, (ids, _) in zip(requests, asked, strict=True)]
        scores = {i: failed_scores(requests[i], item, asked[i][1]) for i, item in enumerate(encoded) if item.error}
        _report(done, list(scores.values()))
        questions = [question for i, (item, (ids, rule)) in enumerate(zip(encoded, asked, strict=True))
                     if i not in scores for question in _label_questions(i, item.ids, ids, rule, requests[i])]
        found: dict[int, dict[int, list[float]]] = {question.owner: {} for question in questions}
        expected = Counter(question.owner for question in questions)

        def keep(at: int, result: Any) -> None:
            owner = questions[at].owner
            found[owner][at] = questions[at].scores(result)
            if len(found[owner]) == expected[owner]:
                plain, first = (tuple(score for place, part in sorted(found[owner].items()) for score in part
                                      if questions[place].as_chosen == which) for which in (False, True))
                scores[owner] = label_scores(requests[owner], encoded[owner], plain, asked[owner][1],
                                             first or (plain if requests[owner].first_tokens else ()))
                _report(done, [scores[owner]])

        self._ask([(question.prompt, question.parameters()) for question in questions], keep)
        return [scores[i] for i in range(len(requests))]

    def count_tokens(self, prompts: Sequence[str], chat: bool = False) -> list[int]:
        """Return the number of tokens each prompt takes, chat template included where ``chat``."""
        return [len(encode_prompt(self._tokenizer, prompt, chat)) for prompt in prompts]

    def close(self) -> None:
        """Give the memory back, as far as vLLM does within a living process."""
        if self._llm is None:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        with contextlib.suppress(AttributeError):  # where it is, differs between versions
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        gc.collect()
        cleanup_dist_env_and_memory()

    def _ask(self, questions: Sequence[tuple[list[int], Any]], keep: Callable[[int, Any], None]) -> None:
        """Put questions (token ids, sampling parameters) to vLLM; ``keep`` gets place and result as they come."""
        for at, (ids, parameters) in enumerate(questions):
            self._add(str(at), ids, parameters)
        while self._llm.llm_engine.has_unfinished_requests():
            for result in self._step(len(questions)):
                keep(int(result.request_id), result)

    def _add(self, number: str, ids: list[int], parameters: Any) -> None:
        try:
            self._llm.llm_engine.add_request(number, {"prompt_token_ids": ids}, parameters)
        except (ValueError, TypeError):
            raise
        except Exception as error:  # the engine's own errors have no common class
            raise _stopped(1, error) from error

    def _step(self, n_running: int) -> list[Any]:
        try:
            return [result for result in self._llm.llm_engine.step() if result.finished]
        except Exception as error:
            raise _stopped(n_running, error) from error

    def _parameters(self, request: Request, with_line: bool) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling, structure = request.sampling, None
        if request.choices or request.pattern:
            structure = StructuredOutputsParams(
                choice=list(request.choices) or None, regex=None if request.choices else request.pattern)
        stop = [*sampling.stop, *(["\n"] if sampling.first_line and with_line else [])]
        return SamplingParams(
            max_tokens=sampling.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p,
            seed=request.seed if sampling.temperature > 0 else None, stop=stop,
            repetition_penalty=sampling.repetition_penalty or 1.0, stop_token_ids=self._end_ids,
            detokenize=bool(stop), structured_outputs=structure, output_kind=RequestOutputKind.FINAL_ONLY)

    def _output(self, request: Request, item: Encoded, result: Any) -> Output:
        answer = result.outputs[0]
        tokens = list(answer.token_ids)
        text, reason = answer_text(
            self._tokenizer, tokens, answer.finish_reason, self._end_ids, request.sampling, item.opening)
        return Output(request.id, text, reason, len(item.ids), len(tokens),
                      n_cached_tokens=result.num_cached_tokens or 0)


@dataclass(frozen=True)
class _Asked:
    """A request that vLLM is at; ``with_line`` where it was told to stop at a newline."""

    request: Request
    encoded: Encoded
    with_line: bool


def _stopped(n_running: int, error: Exception) -> ProcessDiedError:
    return ProcessDiedError(
        f"vLLM stopped while it answered {n_running} prompts ({first_line(error)}). Finished work is kept: run the "
        "same command again to go on; if it was memory, lower max_num_seqs.")


def _may_go_on(output: Output, result: Any) -> bool:
    """Say whether vLLM stopped at a newline that does not end the first line: a blank one, or within reasoning."""
    return result.outputs[0].stop_reason == "\n" and line_end(f"{output.text}\n") is None


@dataclass(frozen=True)
class _Question:
    """What vLLM is asked for label scores of request ``owner``.

    With ``first_token``: the log-probabilities of the tokens ``label`` after ``prompt``. Else: the likelihood of
    ``label``, which ends ``prompt``. ``as_chosen``: after the repetition ``penalty``, which takes an engine that shows
    processed log-probabilities.
    """

    owner: int
    prompt: list[int]
    label: list[int]
    rule: str
    penalty: float = 1.0
    as_chosen: bool = False

    def parameters(self) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        wanted = {"logprob_token_ids": self.label} if self.rule == FIRST_TOKEN else {"prompt_logprobs": 0}
        return SamplingParams(max_tokens=1, temperature=0, detokenize=False, repetition_penalty=self.penalty,
                              output_kind=RequestOutputKind.FINAL_ONLY, **wanted)

    def scores(self, result: Any) -> list[float]:
        if self.rule == FIRST_TOKEN:
            return [result.outputs[0].logprobs[0][token].logprob for token in self.label]
        at_label = result.prompt_logprobs[len(self.prompt) - len(self.label):]
        return [sum(logs[token].logprob for logs, token in zip(at_label, self.label, strict=True))]


def _label_questions(owner: int, prompt: list[int], labels: list[list[int]], rule: str,
                     request: Request) -> list[_Question]:
    firsts = [label[0] for label in labels]
    parts = [firsts[start:start + _MAX_LABELS_AT_ONCE] for start in range(0, len(firsts), _MAX_LABELS_AT_ONCE)]
    questions = [_Question(owner, prompt, part, rule) for part in parts] if rule == FIRST_TOKEN else [
        _Question(owner, [*prompt, *label], label, rule) for label in labels]
    penalty = request.sampling.repetition_penalty or 1.0
    if request.first_tokens and (penalty != 1 or rule != FIRST_TOKEN):
        questions += [_Question(owner, prompt, part, FIRST_TOKEN, penalty, as_chosen=True) for part in parts]
    return questions


def _report(done: Done | None, results: Sequence[Any]) -> None:
    if done and results:
        done(results)
