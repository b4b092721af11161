"""The labels of a prompt as a tree of tokens, and how likely each is as a whole: all its tokens, and its end.

A label's end counts, so that one that begins another (``good`` and ``good-ish``, ``1`` and ``10``) is told from it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from distill.engines.base import Request
from distill.engines.encoding import Encoded, encode_labels
from distill.models.tokenization import raw_separator

ROOT = -1
"""The node before all labels: the end of the prompt."""
MOST_AT_ONCE = 128
"""Tokens of which a request can ask how likely they are: vLLM's bound on logprob_token_ids."""
_REPEATS = 4  # of a stop string: that many line ends are one token


@dataclass(frozen=True)
class LabelTree:
    """Labels whose common beginnings are one.

    ``tokens`` and ``parents`` are those of the nodes, parents before children; ``paths`` are each label's nodes.
    ``ends``: the tokens of which any ends an answer.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    ends: tuple[int, ...]
    depths: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 if parent == ROOT else depths[parent] + 1)
        object.__setattr__(self, "depths", tuple(depths))

    def prefix(self, node: int) -> list[int]:
        """Return the tokens from the prompt to a node, its own included; none of ROOT."""
        return [] if node == ROOT else [*self.prefix(self.parents[node]), self.tokens[node]]

    def child(self, node: int, token: int) -> int | None:
        """Return the node behind ``node`` by a token; None where no label goes on so."""
        return next((child for child, parent in enumerate(self.parents)
                     if parent == node and self.tokens[child] == token), None)

    def wanted(self, node: int) -> list[int]:
        """Return the tokens of whose log-probability after a node a label's consists: of its children, and the ends."""
        following = [self.tokens[child] for child, parent in enumerate(self.parents) if parent == node]
        return [*following, *self.ends] if any(path[-1] == node for path in self.paths) else following

    def logprobs(self, after: dict[int, dict[int, float]]) -> tuple[float, ...]:
        """Return the log-probability of each label, from those of the :meth:`wanted` tokens after each node."""
        found = []
        for path in self.paths:
            steps = sum(after[self.parents[node]][self.tokens[node]] for node in path)
            found.append(steps + _logsumexp([after[path[-1]][end] for end in self.ends]))
        return tuple(found)


def beside_answer(tree: LabelTree) -> list[int]:
    """Return the tokens to ask of an answer's own places, so that the labels' nodes on its way are known with it.

    vLLM lets one list of tokens be asked of a request, of so many: those of the whole tree, or of its root.
    """
    tokens = sorted({token for node in range(ROOT, len(tree.tokens)) for token in tree.wanted(node)})
    for wanted in (tokens, tree.wanted(ROOT)):
        if len(wanted) <= MOST_AT_ONCE:
            return wanted
    return []


def tree_of(labels: Sequence[Sequence[int]], ends: Sequence[int]) -> LabelTree | None:
    """Return the tree of labels, each given by its tokens; None where two have the same, which no model tells apart."""
    nodes: dict[tuple[int, ...], int] = {}
    parents: list[int] = []
    paths = []
    for label in labels:
        path = []
        for length in range(1, len(label) + 1):
            key = tuple(label[:length])
            if key not in nodes:
                nodes[key] = len(nodes)
                parents.append(nodes.get(key[:-1], ROOT))
            path.append(nodes[key])
        paths.append(tuple(path))
    if len(set(paths)) < len(paths):
        return None
    return LabelTree(tuple(key[-1] for key in nodes), tuple(parents), tuple(paths), tuple(ends))


def request_tree(tokenizer: Any, request: Request, end_ids: Sequence[int], stop: Sequence[str] | None = None
                 ) -> LabelTree | None:
    """Return the tree of a request's labels, as they stand behind its prompt; None where there is none to score.

    ``stop``: what ends an answer, where that are not the request's own stop strings.
    """
    if not request.labels:
        return None
    before = "" if request.chat else raw_separator(request.prompt)
    ids, _ = encode_labels(tokenizer, [before + label for label in request.labels], request.chat)
    sampling = request.sampling
    stops = {*(sampling.stop if stop is None else stop), *(["\n"] if sampling.first_line or not request.chat else [])}
    return tree_of(ids, tuple(sorted({*end_ids, *_beginnings(tokenizer, frozenset(stops))})))


def node_counter(tokenizer: Any, chat: bool) -> Callable[[tuple[str, ...]], int]:
    """Return what counts the nodes of labels as an answer has them, the root left out; 0 of labels without a tree."""
    @lru_cache(maxsize=1024)
    def count(labels: tuple[str, ...]) -> int:
        ids, _ = encode_labels(tokenizer, [("" if chat else " ") + label for label in labels], chat)
        tree = tree_of(ids, ())
        return len(tree.tokens) if tree else 0

    return count


def tree_behind(encoded: Encoded, tree: LabelTree | None, limit: int) -> LabelTree | None:
    """Return a prompt's tree; None where its labels cannot be scored behind it, which harms its answer not.

    They have no room within ``limit`` tokens, or the model reasons first, and has not come to a label yet.
    """
    if tree is None or encoded.error or encoded.opening:
        return None
    return tree if len(encoded.ids) + max(map(len, tree.paths)) < limit else None


def finite(logprobs: Sequence[float]) -> tuple[float, ...]:
    """Return log-probabilities that are numbers; none where any is not."""
    return tuple(logprobs) if all(map(math.isfinite, logprobs)) else ()


@lru_cache(maxsize=32)
def _beginnings(tokenizer: Any, stops: frozenset[str]) -> tuple[int, ...]:
    """Return the tokens with which an answer begins to be at one of the stop strings."""
    if not stops:
        return ()
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    return tuple(token for token, text in enumerate(texts)
                 if text and any((stop * _REPEATS).startswith(text) for stop in stops))


def _logsumexp(values: Sequence[float]) -> float:
    most = max(values)
    return most if math.isinf(most) else most + math.log(sum(math.exp(value - most) for value in values))
