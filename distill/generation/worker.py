"""The process that holds an engine of the teacher: answers the shards it is handed, and writes them down."""

import contextlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill import engines
from distill.config.schema import TeacherEngine
from distill.config.sections.base import semantic_fields
from distill.config.sections.teacher import Logprobs
from distill.engines.base import Engine, Output, Request, Sampling
from distill.errors import InputError, ProcessDiedError, RunError
from distill.generation.journal import Journal
from distill.generation.label_logprobs import LABELS
from distill.generation.manifests import commit, is_committed, marker_path, parquet_path, read_marker
from distill.generation.messages import ShardProgress, ShardTask
from distill.generation.open_shard import OpenShard, has_none, storage
from distill.generation.plan import PromptFile, shard_inputs
from distill.generation.requests import request_of, response_of, sampling_of
from distill.generation.top_logprobs import TopSidecar
from distill.generation.validity import count_unusable
from distill.run.records import LabelLogprobs, Prompt, Response, read_records
from distill.run.top_logprobs import TopLogprobs, none_of

_REPORT_SECONDS = 0.5
ENGINE_DIED = "engine_died"
ALONE_DEATHS = 3
"""How often an engine dies of a prompt with no other beside it before that counts as what kills it."""


def serve(spec: dict[str, Any], channel: Connection) -> dict[str, Any]:
    """Open the engine and answer the shards that :mod:`distill.generation.pool` sends, until it says it was the last.

    ``spec``: ``folder`` (of the responses), ``prompts`` (Parquet file), ``model`` (folder, or empty), ``engine``,
    ``settings`` (what determines the responses, see :func:`distill.generation.run.settings_of`), ``cpus`` (which this
    process may use; empty: all), ``counts_decide`` (whether a budget depends on the tokens that a server tells),
    ``logprobs`` (what is wanted beside the answers, as ``teacher.logprobs``); the last two may be left out: no.

    Raises:
        InputError: the engine cannot be opened with these settings.
        RunError: the engine lost or doubled a request, or an answer could not be written down.
        ProcessDiedError: the engine failed as a whole.
    """
    if spec["cpus"]:
        _use_only(spec["cpus"])
    config: TeacherEngine = TypeAdapter(TeacherEngine).validate_python(spec["engine"])
    if (code := semantic_fields(config).get("code")) and code != spec["settings"]["engine"]["code"]:
        raise InputError("The code of teacher.engine has changed since generation began, so what it answers now would "
                         "stand among answers of the code before. Run the same command again: it says what to do.")
    with engines.open_engine(config, Path(spec["model"])) as engine, \
            contextlib.closing(PromptFile(Path(spec["prompts"]))) as prompts:
        if spec.get("counts_decide"):
            _check_token_counts(engine, spec["settings"])
        logprobs = Logprobs.model_validate(spec.get("logprobs", {}))
        if logprobs.labels:
            engine.check_label_logprobs()
        if logprobs.top_k:
            engine.check_top_logprobs(logprobs.top_k)
        Worker(engine, channel, prompts, Path(spec["folder"]), spec["settings"], logprobs).run()
    return {}


class Worker:
    """Shards in, responses on disk. Shards overlap: the engine gets the next one's prompts before it has ended one.

    It says to the pool: ``ready``; ``next`` (wants a shard beside those it is at) and ``idle`` (has nothing to do),
    each of which is answered by an :class:`ShardTask` or None; ``progress`` with a :class:`ShardProgress` by shard and
    the number of requests in flight, also as a sign of life; ``done`` with a shard that is committed, or whose pilot is
    answered where no more is asked; ``alone`` with a prompt that it asks now with no other beside it; ``released`` with
    a shard whose prompts need not be asked alone any more. It hears ``stop`` at any time: to end what is in flight, and
    begin nothing more.
    """

    def __init__(self, engine: Engine, channel: Connection, prompts: PromptFile, folder: Path,
                 settings: dict[str, Any], logprobs: Logprobs = Logprobs()) -> None:  # noqa: B008
        self._engine, self._channel, self._prompts = engine, channel, prompts
        self._folder, self._settings, self._logprobs = folder, settings, logprobs
        self._asked: dict[str, OpenShard] = {}
        self._progress: defaultdict[str, ShardProgress] = defaultdict(ShardProgress)
        self._stopping = False
        self._reported = self._last = time.monotonic()

    def run(self) -> None:
        """Work until there is nothing more to do."""
        self._channel.send(("ready",))
        while (task := self._next_task("idle")) is not None:
            self._last = time.monotonic()
            if task.alone:
                self._answer_alone(task)
            else:
                self._answer(self._requests(task))
            if self._asked:
                raise RunError(f"The engine has ended, but {len(self._asked)} of the requests it was given have no "
                               "answer. Finished shards are kept; this is a defect of the engine.")
            self._report()

    def _answer(self, requests: Iterable[Request]) -> None:
        try:
            self._engine.answer(requests, self._done)
        except (InputError, RunError, OSError):
            raise
        except Exception as error:  # engines' errors have no common class; in a new process it may do better
            raise ProcessDiedError(f"The engine failed ({type(error).__name__}: {error}).") from error

    def _requests(self, task: ShardTask | None) -> Iterator[Request]:
        while task is not None:
            shard = self._open(task)
            for prompt in shard.waiting:
                if self._told_to_stop():
                    break
                yield self._request(prompt, shard)
            else:
                task = None if self._stopping else self._next_task("next")
                continue
            shard.close_if_nothing_runs()
            return

    def _answer_alone(self, task: ShardTask) -> None:
        """Ask prompts with no other beside them, until the one that kills the engine is found, or none of them does."""
        shard = self._open(task)
        for prompt in shard.waiting[:task.alone]:
            if self._told_to_stop():
                break
            deaths = task.deaths.get(prompt.id, 0)
            if deaths:
                self._see_that_it_works()
            if deaths >= ALONE_DEATHS:
                self._give_up(shard, prompt)
                break
            self._channel.send(("alone", prompt.id))
            self._answer([self._request(prompt, shard)])
        if not shard.ended and not self._stopping:
            shard.close_if_nothing_runs()
            self._report()
            self._channel.send(("released", task.shard.name))

    def _give_up(self, shard: OpenShard, prompt: Prompt) -> None:
        if shard.wants_answer(prompt):
            self._keep(shard, [Response(prompt.id, "", "error", 0, 0, ENGINE_DIED)])
        else:
            labels = [LabelLogprobs(prompt.id, prompt.labels, [])] if shard.wants_labels(prompt) else []
            self._keep(shard, [], label_logprobs=labels, top_logprobs=[] if labels else [none_of(prompt.id)])

    def _see_that_it_works(self) -> None:
        """Ask the engine for a word: a prompt is not to blame for an engine that would die of any.

        Raises:
            ProcessDiedError: it has no answer to that either.
        """
        errors: list[str] = []
        self._engine.answer([Request("probe", "Hello", Sampling(max_tokens=1))],
                            lambda outputs: errors.extend(output.error for output in outputs))
        if any(errors):
            raise ProcessDiedError(f"The engine does not answer a plain word either ({errors[0]}).")

    def _open(self, task: ShardTask) -> OpenShard:
        inputs = shard_inputs(task.shard, self._settings)
        prompts = self._prompts.load(task.shard.first, task.shard.count)
        with storage(self._folder):
            known = {prompt.id for prompt in prompts}
            journal = Journal(self._folder, task.shard.name, inputs, known)
            marker = None
            if is_committed(self._folder, task.shard.name, inputs):  # before, or by a process that died meanwhile
                marker = read_marker(marker_path(self._folder, task.shard.name))
                committed = read_records(parquet_path(self._folder, task.shard.name), Response)
                journal.responses = {item.prompt_id: item for item in committed}
            # What a journal has of log-probabilities is gone on with, whatever is wanted now: none is lost.
            labels = self._logprobs.labels or bool(journal.label_logprobs)
            top_k = self._logprobs.top_k or max((item.k for item in journal.top_logprobs.values()), default=0)
            if marker is not None:
                labels = labels and not LABELS.is_captured(self._folder, task.shard.name, marker)
                top_k *= not TopSidecar(top_k).is_captured(self._folder, task.shard.name, marker)
            shard = OpenShard(task, journal, prompts, labels=labels, top_k=top_k)
        self._count(shard, list(journal.responses.values()), only_pilot=True)
        self._end_if_answered(shard)
        return shard

    def _request(self, prompt: Prompt, shard: OpenShard) -> Request:
        request = request_of(prompt, self._settings, labels=shard.wants_labels(prompt),
                             top_k=shard.top_k if shard.wants_top(prompt) else 0,
                             answered=shard.journal.responses.get(prompt.id))
        self._asked[prompt.id] = shard
        shard.n_running += 1
        return request

    def _done(self, outputs: Sequence[Output]) -> None:
        by_shard: dict[str, tuple[OpenShard, list[Output]]] = {}
        for output in outputs:
            shard = self._asked.pop(output.id, None)
            if shard is None:
                raise RunError(f"The engine answered the request {output.id}, which it was not asked or had answered "
                               "before. Finished shards are kept; this is a defect of the engine.")
            shard.n_running -= 1
            by_shard.setdefault(shard.task.shard.name, (shard, []))[1].append(output)
        now = time.monotonic()
        each = (now - self._last) / len(outputs) if outputs else 0.0
        if outputs:
            self._last = now
        for shard, some in by_shard.values():
            progress = self._progress[shard.task.shard.name]
            progress.n_logprob_prompt_tokens += sum(item.n_logprob_prompt_tokens for item in some)
            progress.n_logprob_output_tokens += sum(item.n_logprob_output_tokens for item in some)
            self._keep(shard, [response_of(item) for item in some if shard.wants_answer(shard.prompts[item.id])],
                       each * len(some), sum(item.n_cached_tokens for item in some), self._label_logprobs(shard, some),
                       self._top_logprobs(shard, some))
            if self._stopping:
                shard.close_if_nothing_runs()
        if now - self._reported > _REPORT_SECONDS:
            self._report()

    def _label_logprobs(self, shard: OpenShard, outputs: Sequence[Output]) -> list[LabelLogprobs]:
        found = []
        for prompt, output in ((shard.prompts[item.id], item) for item in outputs):
            new = response_of(output) if shard.wants_answer(prompt) else None
            if shard.wants_labels(prompt) and not (new and has_none(new)):
                told = output.label_logprobs
                whole = len(told) == len(prompt.labels) and all(map(math.isfinite, told))  # an engine may be a user's
                found.append(LabelLogprobs(prompt.id, prompt.labels, list(told) if whole else []))
        return found

    def _top_logprobs(self, shard: OpenShard, outputs: Sequence[Output]) -> list[TopLogprobs]:
        found = []
        for prompt, output in ((shard.prompts[item.id], item) for item in outputs):
            new = response_of(output) if shard.wants_answer(prompt) else None
            if shard.wants_top(prompt) and not (new and new.failure):
                told = output.top_logprobs
                whole = told is not None and told.k >= shard.top_k
                found.append(replace(told, prompt_id=prompt.id) if told and whole else none_of(prompt.id))
        return found

    def _keep(self, shard: OpenShard, responses: list[Response], seconds: float = 0.0, n_cached_tokens: int = 0,
              label_logprobs: Sequence[LabelLogprobs] = (), top_logprobs: Sequence[TopLogprobs] = ()) -> None:
        with storage(self._folder):
            shard.journal.add(responses, seconds, n_cached_tokens, label_logprobs, top_logprobs)
        answered = {item.prompt_id for item in responses}
        scored = [item.prompt_id for item in label_logprobs] + [item.prompt_id for item in top_logprobs]
        shard.settle(answered.union(scored))
        self._count(shard, responses)
        progress = self._progress[shard.task.shard.name]
        progress.n_cached_tokens += n_cached_tokens
        progress.n_rows += sum(key not in answered for key in scored)
        self._end_if_answered(shard)

    def _count(self, shard: OpenShard, responses: Sequence[Response], *, only_pilot: bool = False) -> None:
        progress = self._progress[shard.task.shard.name]
        for item in responses:
            of_pilot = item.prompt_id in shard.pilot
            progress.count(shard.prompts[item.prompt_id], item, of_pilot=of_pilot, only_pilot=only_pilot)
            if of_pilot:
                progress.pilot["logprob_bytes"] += shard.journal.logprob_bytes(item.prompt_id)

    def _end_if_answered(self, shard: OpenShard) -> None:
        if shard.n_left and not (shard.task.only_pilot and shard.has_pilot):
            return
        self._finish(shard)

    def _finish(self, shard: OpenShard) -> None:
        """Commit a shard that is whole; of another, the rest is asked another time."""
        described, journal = shard.task.shard, shard.journal
        shard.waiting, shard.ended = [], True
        with storage(self._folder):
            journal.sync()
            if shard.n_left:
                journal.close()
            else:
                marker = commit(
                    self._folder, described.name, described.prefix, shard_inputs(described, self._settings),
                    journal.responses.values(), journal.seconds, journal.n_cached_tokens,
                    count_unusable(shard.prompts, journal.responses.values()))
                if shard.labels:
                    LABELS.commit(self._folder, described.name, marker, shard.scored())
                if shard.top_k:
                    TopSidecar(shard.top_k, self._engine.token_names).commit(
                        self._folder, described.name, marker, shard.top_scored())
                journal.delete()
        self._report()
        self._channel.send(("done", described.name))

    def _report(self) -> None:
        with storage(self._folder):
            for journal in {id(shard): shard.journal for shard in self._asked.values()}.values():
                journal.sync_if_due()
        self._channel.send(("progress", dict(self._progress), len(self._asked)))
        self._progress.clear()
        self._reported = time.monotonic()

    def _next_task(self, what: str) -> ShardTask | None:
        self._channel.send((what,))
        while (answer := self._channel.recv()) == "stop":
            self._stopping = True
        task: ShardTask | None = answer
        return task

    def _told_to_stop(self) -> bool:
        while self._channel.poll():
            self._channel.recv()  # nothing else comes unasked
            self._stopping = True
        return self._stopping


def _check_token_counts(engine: Engine, settings: dict[str, Any]) -> None:
    family = next(iter(settings["sampling"]))
    engine.check_token_counts(sampling_of(settings, family), settings["chat_template"][family])


def _use_only(cpus: list[int]) -> None:
    """Keep to some of the machine's processors; torch has counted all of them already."""
    import torch

    os.sched_setaffinity(0, cpus)
    torch.set_num_threads(len(cpus))

