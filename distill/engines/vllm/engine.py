"""vLLM in this process, on GPU or CPU. Run it in one of its own (distill.runtime.process): memory then comes back."""

import contextlib
import gc
import importlib
import importlib.util
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.config import schema
from distill.engines.base import Done, Output, Request
from distill.engines.encoding import (
    Encoded,
    answer_end_ids,
    answer_length,
    answer_text,
    encode_request,
    failed_output,
    given_answer,
)
from distill.engines.first_line import first_line_end
from distill.engines.label_tree import LabelTree, beside_answer, request_tree, tree_behind
from distill.engines.local import Keep, LabelQuestion, LocalEngine
from distill.engines.vllm.scores import ForcedAnswer, TreeScores, parts_of
from distill.engines.vllm.start import first_line, start
from distill.engines.vllm.turns import Turns
from distill.errors import InputError, ProcessDiedError
from distill.models import load_tokenizer
from distill.models.whole import refuse_incomplete

log = logging.getLogger("sentidistill.engines")


class VllmEngine(LocalEngine):
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
        self._tokenizer = load_tokenizer(folder, config.chat_template_kwargs)
        self._sampling_params = config.sampling_params
        stop: Any = config.sampling_params.get("stop", ()) or ()
        self._stop = ([stop] if isinstance(stop, str) else stop) if "stop" in config.sampling_params else None
        self._end_ids = answer_end_ids(self._tokenizer, folder)
        refuse_incomplete(folder)
        self._processed_scores = processed_scores
        self._llm: Any = start(config, folder, processed_scores)
        try:
            self._parameters(Request("", ""), with_line=True)
        except (ValueError, TypeError) as error:
            raise InputError(f"vLLM does not take sampling_params {dict(config.sampling_params)} "
                             f"({first_line(error)}). They are fields of its SamplingParams.") from error
        self._limit: int = self._llm.llm_engine.model_config.max_model_len
        self._window = 2 * config.max_num_seqs

    def answer(self, requests: Iterable[Request], done: Done) -> None:
        """Answer a stream of requests; see :class:`distill.engines.base.Engine`.

        As many as vLLM runs at once are waiting behind those that run, so that it never waits for one.
        """
        turns, numbers = Turns(requests, self._window), itertools.count()
        running: dict[str, _Asked | _Scored] = {}

        def add(asked: "_Asked | _Scored", ids: list[int], parameters: Any) -> None:
            number = str(next(numbers))
            self._add(number, ids, parameters)
            running[number] = asked

        def add_all(scores: TreeScores | ForcedAnswer) -> None:
            for node, ids, parameters in scores.queries():
                add(_Scored(scores, node), ids, parameters)

        try:
            while turns.more or running:
                while len(running) < self._window and (request := turns.next(idle=not running)):
                    room: Any = self._sampling_params.get("max_tokens") or request.sampling.max_tokens
                    item = encode_request(self._tokenizer, request, self._limit, room)
                    if item.error:
                        done([failed_output(request, item)])
                        continue
                    if request.answer is not None:
                        nothing = Output(request.id, "", "stop", len(item.ids), 0)
                        given = given_answer(self._tokenizer, request)
                        fits = given and len(item.ids) + len(given) <= self._limit
                        add_all(ForcedAnswer(nothing, item.ids, given, request.top_k)) if fits else done([nothing])
                        continue
                    tree = request_tree(self._tokenizer, request, self._end_ids, self._stop)
                    asked = _Asked(request, item, with_line=True, tree=tree_behind(item, tree, self._limit))
                    if not request.sampling.max_tokens:
                        nothing = Output(request.id, "", "stop", len(item.ids), 0)
                        add_all(TreeScores(nothing, item.ids, asked.tree)) if asked.tree else done([nothing])
                        continue
                    try:
                        add(asked, item.ids, self._parameters(request, True, asked.tree))
                    except (ValueError, TypeError) as error:  # of this request; the others are well
                        log.warning("vLLM does not take the request %s (%s).", request.id, first_line(error))
                        done([Output(request.id, "", "error", len(item.ids), 0, "invalid_request")])
                outputs: list[Output] = []
                for result in self._step(len(running)) if running else ():
                    item_done = running.pop(result.request_id)
                    if isinstance(item_done, _Scored):
                        if (whole := item_done.scores.add(item_done.node, result)) is not None:
                            outputs.append(whole)
                        continue
                    asked = item_done
                    output = self._output(asked.request, asked.encoded, result)
                    if asked.with_line and asked.request.sampling.first_line and _may_go_on(output, result):
                        # vLLM stopped at a blank line or within reasoning, where the first line is still to come
                        add(replace(asked, with_line=False), asked.encoded.ids,
                            self._parameters(asked.request, False, asked.tree))
                    elif (scores := self._beside(output, asked, result)) is None:
                        outputs.append(output)
                    elif (whole := scores.whole()) is not None:
                        outputs.append(whole)
                    else:
                        add_all(scores)
                done(outputs)  # of none, too: a sign of life
        finally:
            if running:
                with contextlib.suppress(Exception):  # the engine may be what failed
                    self._llm.llm_engine.abort_request(list(running))

    def _score(self, questions: Sequence[LabelQuestion], keep: Keep) -> None:
        parts = [part for item in questions for part in parts_of(item)]
        found: dict[int, dict[int, list[float]]] = {part.place: {} for part in parts}
        expected = Counter(part.place for part in parts)
        wants_first = {item.place for item in questions if item.request.first_tokens}
        for number, part in enumerate(parts):
            self._add(str(number), part.prompt, part.parameters())
        while self._llm.llm_engine.has_unfinished_requests():
            for result in self._step(len(parts)):
                number = int(result.request_id)
                place = parts[number].place
                found[place][number] = parts[number].scores(result)
                if len(found[place]) == expected[place]:
                    plain, first = ([score for at, scores in sorted(found[place].items()) for score in scores
                                     if parts[at].as_chosen == which] for which in (False, True))
                    keep(place, plain, first or (plain if place in wants_first else ()))

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

    def _parameters(self, request: Request, with_line: bool, tree: LabelTree | None = None) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling, structure = request.sampling, None
        if request.choices or request.pattern:
            structure = StructuredOutputsParams(
                choice=list(request.choices) or None, regex=None if request.choices else request.pattern)
        stop = [*sampling.stop, *(["\n"] if sampling.first_line and with_line else [])]
        decided = {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
                   "repetition_penalty": sampling.repetition_penalty or 1.0, "stop": stop} | self._sampling_params
        return SamplingParams(
            seed=request.seed if decided["temperature"] != 0 else None, stop_token_ids=self._end_ids,
            detokenize=bool(decided["stop"]), structured_outputs=structure, output_kind=RequestOutputKind.FINAL_ONLY,
            logprobs=request.top_k if request.top_k and self._are_plain(request) else None,
            logprob_token_ids=(beside_answer(tree) or None) if tree and self._are_plain(request) else None,
            **{name: value for name, value in decided.items() if value is not None})

    def _output(self, request: Request, item: Encoded, result: Any) -> Output:
        answer = result.outputs[0]
        tokens = list(answer.token_ids)
        text, reason = answer_text(
            self._tokenizer, tokens, answer.finish_reason, self._end_ids, request.sampling, item.opening)
        return Output(request.id, text, reason, len(item.ids), len(tokens),
                      n_cached_tokens=result.num_cached_tokens or 0)

    def _beside(self, output: Output, asked: "_Asked", result: Any) -> TreeScores | ForcedAnswer | None:
        """Return what is wanted beside an answer, with as much of it as the answer told; None where nothing is."""
        answer, request, ids = result.outputs[0], asked.request, asked.encoded.ids
        tokens = list(answer.token_ids)
        if asked.tree:
            scores = TreeScores(output, ids, asked.tree)
            if self._are_plain(request):
                scores.take_answer(tokens, answer.logprobs)
            return scores
        if not request.top_k:
            return None
        count = answer_length(self._tokenizer, tokens, output.text, output.finish_reason, self._end_ids,
                              asked.encoded.opening)
        forced = ForcedAnswer(output, ids, tokens[:count], request.top_k)
        if self._are_plain(request):
            forced.take_answer(answer.logprobs)
        return forced if count else None

    def _are_plain(self, request: Request) -> bool:
        """Say whether the log-probabilities of an answer's own tokens are the model's.

        vLLM takes them after the grammar (it masks the logits before its sampler runs), and after temperature and
        penalties where the engine shows processed ones.
        """
        return not (request.choices or request.pattern or self._processed_scores)


@dataclass(frozen=True)
class _Asked:
    """A request that vLLM is at; ``with_line`` where it was told to stop at a newline; ``tree``: labels to score."""

    request: Request
    encoded: Encoded
    with_line: bool
    tree: LabelTree | None


@dataclass(frozen=True)
class _Scored:
    """A node of a request's labels, or a place of its answer, that vLLM is at."""

    scores: TreeScores | ForcedAnswer
    node: int


def _stopped(n_running: int, error: Exception) -> ProcessDiedError:
    return ProcessDiedError(
        f"vLLM stopped while it answered {n_running} prompts ({first_line(error)}). Finished work is kept: run the "
        "same command again to go on; if it was memory, lower max_num_seqs.")


def _may_go_on(output: Output, result: Any) -> bool:
    """Say whether vLLM stopped at a newline that does not end the first line: a blank one, or within reasoning."""
    return result.outputs[0].stop_reason == "\n" and first_line_end(f"{output.text}\n") is None
