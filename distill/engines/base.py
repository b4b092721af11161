"""What every engine can do: answer prompts, and score labels. Used by teacher generation and by evaluation."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from distill.config.sections.engines import Capabilities
from distill.errors import InputError
from distill.run.top_logprobs import TopLogprobs

__all__ = ["Capabilities", "Done", "Engine", "LabelScores", "Output", "Request", "Sampling", "in_order"]

Done = Callable[[Sequence[Any]], None]
"""Told of results as they come: each :class:`Output` or :class:`LabelScores` once, in any order."""


@dataclass(frozen=True)
class Sampling:
    """How to decode. ``temperature`` 0 is greedy; ``stop`` strings end the answer and are not part of it.

    With ``first_line``, so does the end of the first line that is not blank; reasoning is no line
    (:mod:`distill.parsing.reasoning`). ``repetition_penalty`` (1: none; :mod:`distill.engines.transformers.penalty`)
    counts the prompt's tokens, too; None leaves it to a server's own settings.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    first_line: bool = False
    repetition_penalty: float | None = 1.0


@dataclass(frozen=True)
class Request:
    """One prompt for an engine. ``chat`` says whether the model's chat template wraps it as a user turn.

    The prompt is data: special tokens inside it are tokenised as plain text, in raw and in chat form.

    The answer is one of ``choices`` where there are any, and matches all of the regular expression ``pattern`` where
    there is one: engines that cannot see to it raise InputError.

    ``first_tokens``: labels are scored by their first token as well, after the repetition penalty.

    ``labels``: the engine says beside its answer how likely each of these would have been
    (:attr:`Output.label_logprobs`); with ``max_tokens`` 0 it does nothing else.

    ``top_k``: the engine says beside its answer which so many tokens were the likeliest at each of the answer's
    (:attr:`Output.top_logprobs`); where an ``answer`` is given, it says so of that and writes none. ``ended``: that
    ended with the token that ends an answer.
    """

    id: str
    prompt: str
    sampling: Sampling = field(default_factory=Sampling)
    chat: bool = False
    seed: int = 0
    choices: tuple[str, ...] = ()
    pattern: str = ""
    first_tokens: bool = False
    labels: tuple[str, ...] = ()
    top_k: int = 0
    answer: str | None = None
    ended: bool = True

    @property
    def is_structured(self) -> bool:
        """Whether the answer may be but some texts."""
        return bool(self.choices or self.pattern)


@dataclass(frozen=True)
class Output:
    """The answer to one request. ``finish_reason``: ``stop`` (ended by itself), ``length``, or ``error``.

    With ``error``, ``text`` is empty and ``error`` says why (for example ``prompt_too_long``). ``n_cached_tokens`` of
    the prompt were not computed again, because an earlier prompt began with them. ``counts_estimated``: a server did
    not say how many tokens it took.

    ``label_logprobs``: the log-probability (natural, before temperature and grammar) of each of the request's labels as
    a whole, its end included (:mod:`distill.engines.label_tree`). Empty where it was not asked for, or cannot be told.
    ``top_logprobs``: the likeliest tokens at each of the answer's, before temperature and grammar; None likewise.
    ``n_logprob_prompt_tokens``, ``n_logprob_output_tokens``: what a server read and wrote for both in requests of their
    own, beside the tokens of the answer.
    """

    id: str
    text: str
    finish_reason: str
    n_prompt_tokens: int
    n_output_tokens: int
    error: str = ""
    n_cached_tokens: int = 0
    counts_estimated: bool = False
    label_logprobs: tuple[float, ...] = ()
    top_logprobs: TopLogprobs | None = None
    n_logprob_prompt_tokens: int = 0
    n_logprob_output_tokens: int = 0


@dataclass(frozen=True)
class LabelScores:
    """Log-probabilities (natural log) of each label of one request, in the order of the labels asked.

    ``rule`` is ``first_token`` when labels differ in their first token, else ``full_likelihood``. ``first_tokens`` are
    those of each label's first token after the repetition penalty, where the request wants them; equal for labels that
    begin with the same.
    """

    id: str
    scores: tuple[float, ...]
    n_prompt_tokens: int
    rule: str
    error: str = ""
    first_tokens: tuple[float, ...] = ()


class BatchEngine(Protocol):
    """What answers requests that are all there."""

    @property
    def name(self) -> str:
        """What errors and logs call it."""
        ...

    def generate(self, requests: Sequence[Request], done: Done | None = None) -> list[Output]:
        """As :meth:`Engine.generate`."""
        ...

    def score_labels(
        self, requests: Sequence[Request], labels: Sequence[Sequence[str]], done: Done | None = None
    ) -> list[LabelScores]:
        """As :meth:`Engine.score_labels`."""
        ...


class Engine(ABC):
    """One loaded model. Engines hold a model in memory: use :func:`distill.engines.open_engine` as a context.

    A subclass must have :meth:`answer`, and of the rest what its capabilities promise.
    """

    name: ClassVar[str] = "engine"
    """What errors and logs call it."""
    capabilities: ClassVar[Capabilities] = Capabilities()
    """What a class of a user's own can do; of ours, the config section says it, for which nothing is imported."""
    max_model_len: int | None = None
    """Tokens of prompt and answer together, where a remote engine knows it."""

    def __init__(self, config: Any, folder: Path | None) -> None:
        """``config``: the engine's section of the config; ``folder``: of the model's weights, None for a remote one."""
        self.config, self.folder = config, folder

    @abstractmethod
    def answer(self, requests: Iterable[Request], done: Done) -> None:
        """Answer a stream of requests, each taken when there is room for it; ``done`` gets the outputs as they end.

        As a sign of life, ``done`` is also told of no outputs, after every step of the model or about every second. A
        bad request gets an ``error`` output and harms no other. Taking a request may take a moment, and the engine
        does nothing meanwhile.

        Raises:
            ProcessDiedError: the engine failed as a whole; what had ended was told to ``done``.
        """

    def generate(self, requests: Sequence[Request], done: Done | None = None) -> list[Output]:
        """Answer every request, in the order given; a bad one gets an ``error`` output and harms no other."""
        return in_order(self, requests, done)

    def score_labels(
        self, requests: Sequence[Request], labels: Sequence[Sequence[str]], done: Done | None = None
    ) -> list[LabelScores]:
        """Score, for every request, each of its labels as the continuation of the prompt.

        ``labels[i]`` are the continuations of ``requests[i]`` exactly as they would be written (with their
        leading space where there is one).

        Raises:
            InputError: the engine cannot.
        """
        raise InputError(f"The engine '{self.name}' does not show the scores of labels. Set evaluate.classify to "
                         "generate, which lets the model write its label.")

    def count_tokens(self, prompts: Sequence[str], chat: bool = False) -> list[int]:
        """Return the number of tokens each prompt takes, chat template included where ``chat``.

        Raises:
            InputError: the engine has no tokenizer.
        """
        raise InputError(f"The engine '{self.name}' does not count tokens.")

    def token_names(self, ids: Sequence[int]) -> list[str]:
        """Return what the model's tokenizer calls tokens; an empty string for an id that it does not know.

        Raises:
            InputError: the engine has no tokenizer.
        """
        raise InputError(f"The engine '{self.name}' does not know its model's tokens.")

    def check_token_counts(self, sampling: Sampling, chat: bool) -> None:
        """Ask a word, and see that the tokens it takes can be told, where a budget depends on them.

        Raises:
            InputError: they are estimates.
        """
        few = dataclasses.replace(sampling, max_tokens=min(16, sampling.max_tokens))
        if self.generate([Request("probe", "Hello", few, chat=chat)])[0].counts_estimated:
            raise InputError("The endpoint does not say how many tokens an answer takes ('usage'), and no tokenizer is "
                             "named that could tell, so that teacher.budget.max_cost could not be kept. Set the "
                             "engine's 'tokenizer' to a model with the same one, or teacher.budget.max_cost to null.")

    def check_label_logprobs(self) -> None:  # noqa: B027 (most know what they can)
        """See that :attr:`Output.label_logprobs` can be told, where that depends on what is elsewhere.

        Raises:
            InputError: it cannot.
        """

    def check_top_logprobs(self, k: int) -> None:  # noqa: B027 (as above)
        """See that :attr:`Output.top_logprobs` of ``k`` tokens can be told, where that depends on what is elsewhere.

        Raises:
            InputError: it cannot.
        """

    def close(self) -> None:  # noqa: B027 (there may be nothing to give back)
        """Give the memory back."""


def in_order(engine: Engine, requests: Sequence[Request], done: Done | None) -> list[Output]:
    """Have an engine :meth:`Engine.answer` requests, and return the outputs in the order of these."""
    found: dict[int, Output] = {}

    def numbered() -> Iterator[Request]:  # ids may come twice
        for place, request in enumerate(requests):
            yield dataclasses.replace(request, id=str(place))

    def keep(outputs: Sequence[Output]) -> None:
        own = [dataclasses.replace(output, id=requests[int(output.id)].id) for output in outputs]
        found.update({int(output.id): mine for output, mine in zip(outputs, own, strict=True)})
        if done and own:
            done(own)

    engine.answer(numbered(), keep)
    return [found[place] for place in range(len(requests))]
