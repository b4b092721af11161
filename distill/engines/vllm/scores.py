"""Label scores out of vLLM: what it is asked for them, and where in its results they stand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from distill.engines.base import Output
from distill.engines.encoding import FIRST_TOKEN
from distill.engines.label_tree import MOST_AT_ONCE, ROOT, LabelTree, finite
from distill.engines.local import LabelQuestion
from distill.run.top_logprobs import TopLogprobs, top_logprobs


@dataclass(frozen=True)
class Part:
    """What vLLM is asked of the question at ``place``.

    With the rule ``first_token``: the log-probabilities of the tokens ``label`` after ``prompt``. Else: the likelihood
    of ``label``, which ends ``prompt``. ``as_chosen``: after the repetition ``penalty``, which takes an engine that
    shows processed log-probabilities.
    """

    place: int
    prompt: list[int]
    label: list[int]
    rule: str
    penalty: float = 1.0
    as_chosen: bool = False

    def parameters(self) -> Any:
        """Return vLLM's parameters of sampling."""
        wanted = {"logprob_token_ids": self.label} if self.rule == FIRST_TOKEN else {"prompt_logprobs": 0}
        return _one_token(repetition_penalty=self.penalty, **wanted)

    def scores(self, result: Any) -> list[float]:
        """Return the log-probabilities that stand in a result of vLLM's."""
        if self.rule == FIRST_TOKEN:
            return [result.outputs[0].logprobs[0][token].logprob for token in self.label]
        at_label = result.prompt_logprobs[len(self.prompt) - len(self.label):]
        return [sum(logs[token].logprob for logs, token in zip(at_label, self.label, strict=True))]


def parts_of(item: LabelQuestion) -> list[Part]:
    """Return what vLLM is asked for a question: first tokens some at once, whole labels one by one."""
    firsts = [label[0] for label in item.labels]
    some = [firsts[start:start + MOST_AT_ONCE] for start in range(0, len(firsts), MOST_AT_ONCE)]
    parts = [Part(item.place, item.prompt, part, item.rule) for part in some] if item.rule == FIRST_TOKEN else [
        Part(item.place, [*item.prompt, *label], label, item.rule) for label in item.labels]
    if item.request.first_tokens and (item.penalty != 1 or item.rule != FIRST_TOKEN):
        parts += [Part(item.place, item.prompt, part, FIRST_TOKEN, item.penalty, as_chosen=True) for part in some]
    return parts


@dataclass
class TreeScores:
    """The labels of a request while they are scored, beside its ``output``: a token of vLLM's for each node.

    vLLM has the whole blocks of the prompt in its prefix cache by then, which ``prompt_logprobs`` would not use.
    Nodes that the answer itself went through are known from it.
    """

    output: Output
    prompt: list[int]
    tree: LabelTree
    _after: dict[int, dict[int, float]] = field(default_factory=dict)
    _left: int = 0

    def take_answer(self, tokens: Sequence[int], found: Sequence[Mapping[int, Any]] | None) -> None:
        """Take what an answer says of the nodes on its way (:func:`distill.engines.label_tree.beside_answer`)."""
        node: int | None = ROOT
        for token, logs in zip(tokens, found or (), strict=False):
            if node is None or not all(one in logs for one in self.tree.wanted(node)):
                return
            self._after[node] = {one: logs[one].logprob for one in self.tree.wanted(node)}
            node = self.tree.child(node, token)

    def whole(self) -> Output | None:
        """Return the output with its labels' log-probabilities; None while any node is unknown."""
        if self._left or len(self._after) <= len(self.tree.tokens):
            return None
        return replace(self.output, label_logprobs=finite(self.tree.logprobs(self._after)))

    def queries(self) -> Iterator[tuple[int, list[int], Any]]:
        """Yield what vLLM is to be asked: node, prompt, parameters."""
        for node in range(ROOT, len(self.tree.tokens)):
            wanted = self.tree.wanted(node) if node not in self._after else []
            for start in range(0, len(wanted), MOST_AT_ONCE):
                self._left += 1
                yield node, [*self.prompt, *self.tree.prefix(node)], _one_token(
                    logprob_token_ids=wanted[start:start + MOST_AT_ONCE])

    def add(self, node: int, result: Any) -> Output | None:
        """Take vLLM's result; return the whole output with the last of them."""
        found = result.outputs[0].logprobs[0]
        self._after.setdefault(node, {}).update({token: item.logprob for token, item in found.items()})
        self._left -= 1
        return self.whole()


@dataclass
class ForcedAnswer:
    """An answer that is given, while the likeliest tokens at each of its own are told: a token of vLLM's for each.

    As with labels, vLLM has what comes before in its prefix cache, and memory for one place of each at a time.
    """

    output: Output
    prompt: list[int]
    answer: list[int]
    k: int
    _found: dict[int, tuple[list[int], list[float]]] = field(default_factory=dict)

    def take_answer(self, found: Sequence[Mapping[int, Any]] | None) -> None:
        """Take what the answer itself told, where it was asked with ``logprobs``."""
        if found:
            self._found = {place: _likeliest(found[place], self.k) for place in range(len(self.answer))}

    def whole(self) -> Output | None:
        """Return the output with its tokens' log-probabilities; None while those of any are unknown."""
        if len(self._found) < len(self.answer):
            return None
        tops = [self._found[place] for place in range(len(self.answer))]
        return replace(self.output, top_logprobs=_record(self.answer, tops))

    def queries(self) -> Iterator[tuple[int, list[int], Any]]:
        """Yield what vLLM is to be asked: place, prompt, parameters."""
        for place in range(len(self.answer)):
            yield place, [*self.prompt, *self.answer[:place]], _one_token(logprobs=self.k)

    def add(self, place: int, result: Any) -> Output | None:
        """Take vLLM's result; return the whole output with the last of them."""
        self._found[place] = _likeliest(result.outputs[0].logprobs[0], self.k)
        return self.whole()


def _likeliest(found: Mapping[int, Any], k: int) -> tuple[list[int], list[float]]:
    """Return the ids and log-probabilities of ``k`` tokens: vLLM gives the one it chose beside them."""
    chosen = sorted(found.items(), key=lambda item: item[1].rank)[:k]
    return [token for token, _ in chosen], [item.logprob for _, item in chosen]


def _record(tokens: Sequence[int], tops: Sequence[tuple[list[int], list[float]]]) -> TopLogprobs | None:
    if len({len(ids) for ids, _ in tops}) != 1:  # it gave fewer than it was asked for
        return None
    return top_logprobs("", tokens, [ids for ids, _ in tops], [logs for _, logs in tops])


def _one_token(**wanted: Any) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(max_tokens=1, temperature=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY,
                          **wanted)
