"""Dedup: of texts that are the same or nearly the same, one stays (Section 4.1)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from distill.corpus.deduplication.near_pairs import keep_first, keep_one_of_each_cluster
from distill.corpus.deduplication.sketch import Sketches

Keep = Literal["first", "longest"]
Group = Literal["greedy", "clusters"]


@dataclass(frozen=True)
class Decision:
    """What becomes of n texts, by place: ``kept`` (n,) bool; of the others, which kept one each is a copy of.

    ``by`` (n,) int64 is that place, -1 for kept texts; ``exact`` (n,) bool says that the two have one normal form.
    """

    kept: np.ndarray
    by: np.ndarray
    exact: np.ndarray


def decide(sketches: Sketches, max_distance: int, keep: Keep = "first", group: Group = "greedy",
           tie: np.ndarray | None = None) -> Decision:
    """Say which texts stay, whatever order they came in.

    Of texts with the same normal form one stays, then of those whose simhashes are at most ``max_distance`` bits apart.
    Texts are taken in the order of a hash of their content, ``first``, or the ``longest`` first; of the very same
    text the lowest ``tie`` (default: the place) stays. ``greedy`` compares with texts that stay: where A is near B
    and B near C, but not A near C, and B goes because of A, C stays. In ``clusters`` it goes.
    """
    places = np.arange(len(sketches)) if tie is None else tie
    turn = np.lexsort((places, sketches.order, -sketches.lengths.astype(np.int64) if keep == "longest" else
                       np.zeros(len(sketches), np.int8)))
    ordered = sketches[turn]
    same = np.lexsort((np.arange(len(turn)), ordered.keys[:, 1], ordered.keys[:, 0]))
    keys = ordered.keys[same]
    begins = np.ones(len(turn), np.bool_)
    begins[1:] = np.any(keys[1:] != keys[:-1], axis=1)
    first = np.empty(len(turn), np.int64)
    first[same] = same[np.flatnonzero(begins)][np.cumsum(begins) - 1] if len(turn) else same
    exact = first != np.arange(len(turn))

    kept, by = ~exact, np.where(exact, first, -1)
    compared = np.flatnonzero(kept & ordered.near)
    choose = keep_first if group == "greedy" else keep_one_of_each_cluster
    found = choose(ordered.simhashes[compared], max_distance)
    kept[compared] = found.kept
    gone = compared[~found.kept]
    by[gone] = compared[found.by[~found.kept]]
    # A copy of a text that went itself went for what that went for.
    orphaned = exact & ~kept[np.maximum(by, 0)]
    by = np.where(orphaned, by[np.maximum(by, 0)], by)
    exact &= ~orphaned

    decision = Decision(np.empty_like(kept), np.full(len(turn), -1, np.int64), np.empty_like(exact))
    decision.kept[turn], decision.exact[turn] = kept, exact
    decision.by[turn] = np.where(by < 0, -1, turn[np.maximum(by, 0)]) if len(turn) else by
    return decision
