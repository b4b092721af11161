"""The process that holds an engine of the teacher: answers the shards it is handed, and writes them down."""

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill import engines
from distill.config.schema import TeacherEngine
from distill.engines.base import Engine, Output, Request, Sampling
from distill.errors import InputError, ProcessDiedError, RunError
from distill.generation.journal import Journal
from distill.generation.markers import commit, is_committed, parquet_path
from distill.generation.messages import ShardProgress, ShardTask
from distill.generation.open_shard import OpenShard, storage
from distill.generation.shards import PromptFile, shard_inputs
from distill.generation.usable import BAD, example, problem, problems
from distill.run.records import Prompt, Response, read_records

_SAY_SECONDS = 0.5
ENGINE_DIED = "engine_died"
_EXAMPLES = 3
ALONE_DEATHS = 3
"""How often an engine dies of a prompt with no other beside it before that counts as what kills it."""


def serve(spec: dict[str, Any], channel: Connection) -> dict[str, Any]:
    """Open the engine and answer the shards that :mod:`distill.generation.pool` sends, until it says it was the last.

    ``spec``: ``folder`` (of the responses), ``prompts`` (Parquet file), ``model`` (folder, or empty), ``engine``,
    ``settings`` (what determines the responses, see :func:`distill.generation.run.settings_of`), ``cpus`` (which this
    process may use; empty: all), ``counts_decide`` (whether a budget depends on the tokens that a server tells;
    may be left out: no).

    Raises:
        InputError: the engine cannot be opened with these settings.
        RunError: the engine lost or doubled a request, or an answer could not be written down.
        ProcessDiedError: the engine failed as a whole.
    """
    if spec["cpus"]:
        _use_only(spec["cpus"])
    config = TypeAdapter(TeacherEngine).validate_python(spec["engine"])
    with engines.open_engine(config, Path(spec["model"])) as engine, \
            contextlib.closing(PromptFile(Path(spec["prompts"]))) as prompts:
        if spec.get("counts_decide"):
            _check_token_counts(engine, spec["settings"])
        Worker(engine, channel, prompts, Path(spec["folder"]), spec["settings"]).run()
    return {}


class Worker:
    """Shards in, responses on disk. Shards overlap: the engine gets the next one's prompts before it has ended one.

    It says to the pool: ``ready``; ``next`` (wants a shard beside those it is at) and ``idle`` (has nothing to do),
    each of which is answered by an :class:`ShardTask` or None; ``gained`` with a :class:`ShardProgress` by shard and
    the number of requests in flight, also as a sign of life; ``done`` with a shard that is committed, or whose pilot is
    answered where no more is asked; ``alone`` with a prompt that it asks now with no other beside it; ``again`` with a
    shard whose prompts need not be asked alone any more. It hears ``stop`` at any time: to end what is in flight, and
    begin nothing more.
    """

    def __init__(self, engine: Engine, channel: Connection, prompts: PromptFile, folder: Path,
                 settings: dict[str, Any]) -> None:
        self._engine, self._channel, self._prompts = engine, channel, prompts
        self._folder, self._settings = folder, settings
        self._asked: dict[str, OpenShard] = {}
        self._gains: defaultdict[str, ShardProgress] = defaultdict(ShardProgress)
        self._stopping = False
        self._said = self._last = time.monotonic()

    def run(self) -> None:
        """Work until there is nothing more to do."""
        self._channel.send(("ready",))
        while (order := self._ask("idle")) is not None:
            self._last = time.monotonic()
            if order.alone:
                self._answer_alone(order)
            else:
                self._answer(self._requests(order))
            if self._asked:
                raise RunError(f"The engine has ended, but {len(self._asked)} of the requests it was given have no "
                               "answer. Finished shards are kept; this is a defect of the engine.")
            self._say()

    def _answer(self, requests: Iterable[Request]) -> None:
        try:
            self._engine.answer(requests, self._done)
        except (InputError, RunError, OSError):
            raise
        except Exception as error:  # engines' errors have no common class; in a new process it may do better
            raise ProcessDiedError(f"The engine failed ({type(error).__name__}: {error}).") from error

    def _requests(self, order: ShardTask | None) -> Iterator[Request]:
        while order is not None:
            shard = self._open(order)
            for prompt in shard.waiting:
                if self._told_to_stop():
                    break
                yield self._request(prompt, shard)
            else:
                order = None if self._stopping else self._ask("next")
                continue
            shard.close_if_nothing_runs()
            return

    def _answer_alone(self, order: ShardTask) -> None:
        """Ask prompts with no other beside them, until the one that kills the engine is found, or none of them does."""
        shard = self._open(order)
        for prompt in shard.waiting[:order.alone]:
            if self._told_to_stop():
                break
            deaths = order.deaths.get(prompt.id, 0)
            if deaths:
                self._see_that_it_works()
            if deaths >= ALONE_DEATHS:
                self._keep(shard, [Response(prompt.id, "", "error", 0, 0, ENGINE_DIED)])
                break
            self._channel.send(("alone", prompt.id))
            self._answer([self._request(prompt, shard)])
        if not shard.ended and not self._stopping:
            shard.close_if_nothing_runs()
            self._say()
            self._channel.send(("again", order.shard.name))

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

    def _open(self, order: ShardTask) -> OpenShard:
        inputs = shard_inputs(order.shard, self._settings)
        prompts = self._prompts.load(order.shard.first, order.shard.count)
        with storage(self._folder):
            known = {prompt.id for prompt in prompts}
            shard = OpenShard(order, Journal(self._folder, order.shard.name, inputs, known), prompts)
            if is_committed(self._folder, order.shard.name, inputs):  # by a process that died before it could say so
                shard.journal.delete()
                shard.waiting, shard.ended = [], True
                committed = list(read_records(parquet_path(self._folder, order.shard.name), Response))
                self._count(shard, committed, only_pilot=True)
                self._say()
                self._channel.send(("done", order.shard.name))
                return shard
        self._count(shard, list(shard.journal.responses.values()), only_pilot=True)
        self._end_if_answered(shard)
        return shard

    def _request(self, prompt: Prompt, shard: OpenShard) -> Request:
        settings = self._settings
        sampling = settings["sampling"].get(prompt.family)
        if sampling is None:
            raise RunError(f"The prompt {prompt.id} is of the family '{prompt.family}', which does not belong to this "
                           f"stage ({', '.join(settings['sampling'])}). Run the prompts stage again.")
        chat = settings["chat_template"][prompt.family]
        choices, pattern = _structure(prompt, chat) if settings["structured"] else ((), "")
        self._asked[prompt.id] = shard
        shard.n_running += 1
        return Request(prompt.id, prompt.prompt, Sampling(**{**sampling, "stop": tuple(sampling["stop"])}), chat=chat,
                       seed=prompt.seed, choices=choices, pattern=pattern)

    def _done(self, outputs: Sequence[Output]) -> None:
        by_shard: dict[str, tuple[OpenShard, list[Output]]] = {}
        for output in outputs:
            shard = self._asked.pop(output.id, None)
            if shard is None:
                raise RunError(f"The engine answered the request {output.id}, which it was not asked or had answered "
                               "before. Finished shards are kept; this is a defect of the engine.")
            shard.n_running -= 1
            by_shard.setdefault(shard.order.shard.name, (shard, []))[1].append(output)
        now = time.monotonic()
        each = (now - self._last) / len(outputs) if outputs else 0.0
        if outputs:
            self._last = now
        for shard, some in by_shard.values():
            self._keep(shard, [_response(item) for item in some], each * len(some),
                       sum(item.n_cached_tokens for item in some))
            if self._stopping:
                shard.close_if_nothing_runs()
        if now - self._said > _SAY_SECONDS:
            self._say()

    def _keep(self, shard: OpenShard, responses: list[Response], seconds: float = 0.0,
              n_cached_tokens: int = 0) -> None:
        with storage(self._folder):
            shard.journal.add(responses, seconds, n_cached_tokens)
        self._count(shard, responses)
        self._gains[shard.order.shard.name].n_cached_tokens += n_cached_tokens
        self._end_if_answered(shard)

    def _count(self, shard: OpenShard, responses: Sequence[Response], *, only_pilot: bool = False) -> None:
        gain = self._gains[shard.order.shard.name]
        for item in responses:
            # What was refused before it was sent (too long, empty) has cost nothing.
            n_prompt_tokens = 0 if item.failure and not item.n_output_tokens else item.n_prompt_tokens
            tokens = {"n_rows": 1, "n_prompt_tokens": n_prompt_tokens, "n_output_tokens": item.n_output_tokens}
            prompt = shard.prompts[item.prompt_id]
            bad = problem(prompt, item)
            if bad and len(gain.examples) < _EXAMPLES:
                gain.examples.append(example(prompt, item))
            if item.prompt_id in shard.pilot:
                gain.pilot.update({**tokens, f"{BAD}{bad}": 1} if bad else tokens)
            if not only_pilot:
                gain.bad.update([bad] if bad else [])
                gain.n_rows += 1
                gain.n_prompt_tokens += n_prompt_tokens
                gain.n_output_tokens += item.n_output_tokens

    def _end_if_answered(self, shard: OpenShard) -> None:
        if shard.n_left and not (shard.order.only_pilot and shard.pilot <= shard.journal.responses.keys()):
            return
        name, journal = shard.order.shard.name, shard.journal
        shard.ended = True
        with storage(self._folder):
            journal.sync()
            if shard.n_left:
                journal.close()  # the rest is asked another time
            else:
                commit(self._folder, name, shard.order.shard.prefix, shard_inputs(shard.order.shard, self._settings),
                       journal.responses.values(), journal.seconds, journal.n_cached_tokens,
                       problems(shard.prompts, journal.responses.values()))
                journal.delete()
        self._say()
        self._channel.send(("done", name))

    def _say(self) -> None:
        with storage(self._folder):
            for journal in {id(shard): shard.journal for shard in self._asked.values()}.values():
                journal.sync_if_due()
        self._channel.send(("gained", dict(self._gains), len(self._asked)))
        self._gains.clear()
        self._said = time.monotonic()

    def _ask(self, what: str) -> ShardTask | None:
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
    sampling = settings["sampling"][family]
    engine.check_token_counts(Sampling(**{**sampling, "stop": tuple(sampling["stop"])}),
                              settings["chat_template"][family])


def _use_only(cpus: list[int]) -> None:
    """Keep to some of the machine's processors; torch has counted all of them already."""
    import torch

    os.sched_setaffinity(0, cpus)
    torch.set_num_threads(len(cpus))


def _structure(prompt: Prompt, chat: bool) -> tuple[tuple[str, ...], str]:
    from distill.engines.grammar import structure_of

    return structure_of(prompt, chat)


def _response(output: Output) -> Response:
    failure = (output.error or "error") if output.finish_reason == "error" else _unwritable(output.text)
    return Response(output.id, "" if failure else output.text, output.finish_reason, output.n_prompt_tokens,
                    output.n_output_tokens, failure, output.counts_estimated)


def _unwritable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates, which Parquet cannot hold
        return "invalid_unicode"
    return ""
