"""Dedup: of texts that are the same or nearly the same, one stays (Section 4.1)."""

from collections.abc import Iterable

from distill.config.schema import Dedup
from distill.corpus.simhash import NearIndex
from distill.corpus.sketch import Candidate
from distill.corpus.step import Step
from distill.hashing import hash_order
from distill.records import Text


def dedup(candidates: Iterable[Candidate], config: Dedup, seed: int, step: Step) -> list[Text]:
    """Return the texts that stay, sorted by id; drop and count the others.

    Reasons: ``duplicate_exact`` (same normal form as a kept text), ``duplicate_near`` (simhash at most
    ``max_distance`` bits from a kept text). Which of a group stays is decided by hash, so the result does
    not depend on the order of the input. Two texts are compared with kept texts only: A near B near C does
    not take C out if B is gone. With ``enabled`` false only texts with the same id go, since ids are unique.
    """
    kept: list[Text] = []
    by_key: dict[bytes, str] = {}
    index, indexed = NearIndex(config.max_distance), []
    for candidate in sorted(candidates, key=lambda item: _order(item.text, seed)):
        step.take()
        text = candidate.text
        key = candidate.key if config.enabled else bytes.fromhex(text.id)
        if key in by_key:
            step.drop(text.id, "duplicate_exact", f"same as {by_key[key]}", text.text)
            continue
        value = candidate.simhash if config.enabled else None
        if value is not None and (found := index.nearest(value)):
            step.drop(text.id, "duplicate_near", f"simhash distance {found[0]} to {indexed[found[1]]}", text.text)
            continue
        by_key[key] = text.id
        if value is not None:
            index.add(value)
            indexed.append(text.id)
        kept.append(text)
        step.give()
    return sorted(kept, key=lambda text: text.id)


def _order(text: Text, seed: int) -> tuple[int, str, str, str]:
    return hash_order(seed, text.id, "dedup"), text.id, text.source, text.domain
