"""Triplets of neighbouring classes: what is near in meaning is to be far enough apart in embeddings (equation (1))."""

from collections.abc import Iterable, Mapping, Sequence

import torch

from distill.config.sections.encoder import TripletLoss
from distill.encoder.data import Sentence
from distill.run.hashing import derived_rng


class Triplets:
    """Draws for each sentence, anew each epoch: one positive of its class, one negative of a neighbouring class."""

    def __init__(self, sentences: Sequence[Sentence], seed: int) -> None:
        """Index the sentences by class; every class and its neighbours must have some (as checked when read)."""
        self._sentences, self._seed = sentences, seed
        self._by_class = self._classes(range(len(sentences)))

    def draw(self, place: int, epoch: int) -> tuple[int, int]:
        """Return the places of a positive and a negative; the positive is another sentence where the class has one."""
        found = self._draw(place, epoch, self._by_class)
        assert found is not None
        return found

    def draw_in(self, batch: Sequence[int], epoch: int) -> list[tuple[int, int, int]]:
        """Return triplets (anchor, positive, negative) as numbers in a batch, without anchors that find none there."""
        number = {place: position for position, place in enumerate(batch)}
        by_class = self._classes(batch)
        found = ((place, self._draw(place, epoch, by_class)) for place in batch)
        return [(number[place], number[drawn[0]], number[drawn[1]]) for place, drawn in found
                if drawn and drawn[0] != place]

    def _classes(self, places: Iterable[int]) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for place in places:
            found.setdefault(self._sentences[place].label, []).append(place)
        return found

    def _draw(self, place: int, epoch: int, by_class: Mapping[int, Sequence[int]]) -> tuple[int, int] | None:
        sentence = self._sentences[place]
        rng = derived_rng(self._seed, sentence.id, f"triplet {epoch}")
        same = by_class[sentence.label]
        positive = rng.choice(same)
        if positive == place and len(same) > 1:
            positive = same[(same.index(place) + 1 + rng.randrange(len(same) - 1)) % len(same)]
        near = [label for label in (sentence.label - 1, sentence.label + 1) if label in by_class]
        return (positive, rng.choice(by_class[rng.choice(near)])) if near else None


def triplet_loss(config: TripletLoss, anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
                 ) -> torch.Tensor:
    """Return the mean loss over (batch × width) embeddings, without its weight: max(0, d(a,p) - d(a,n) + margin)."""
    def distance(others: torch.Tensor) -> torch.Tensor:
        squared = (anchors.float() - others.float()).pow(2).sum(-1)
        return squared if config.distance == "squared" else (squared + 1e-12).sqrt()  # a gradient at 0, too

    return (distance(positives) - distance(negatives) + config.margin).clamp(min=0).mean()
