"""Triplets of neighbouring classes: what is near in meaning is to be far enough apart in embeddings (equation (1))."""

from collections.abc import Sequence

import torch

from distill.config.sections.encoder import TripletLoss
from distill.encoder.data import Sentence
from distill.hashing import derived_rng


class Triplets:
    """Draws for each sentence, anew each epoch: one positive of its class, one negative of a neighbouring class."""

    def __init__(self, sentences: Sequence[Sentence], seed: int) -> None:
        """Index the sentences by class; every class and its neighbours must have some (as checked when read)."""
        self._sentences, self._seed = sentences, seed
        self._by_class: dict[int, list[int]] = {}
        for place, sentence in enumerate(sentences):
            self._by_class.setdefault(sentence.label, []).append(place)

    def draw(self, place: int, epoch: int) -> tuple[int, int]:
        """Return the places of a positive and a negative; the positive is another sentence where the class has one."""
        sentence = self._sentences[place]
        rng = derived_rng(self._seed, sentence.id, f"triplet {epoch}")
        same = self._by_class[sentence.label]
        positive = rng.choice(same)
        if positive == place and len(same) > 1:
            positive = same[(same.index(place) + 1 + rng.randrange(len(same) - 1)) % len(same)]
        near = [label for label in (sentence.label - 1, sentence.label + 1) if label in self._by_class]
        return positive, rng.choice(self._by_class[rng.choice(near)])


def triplet_loss(config: TripletLoss, anchors: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
                 ) -> torch.Tensor:
    """Return the mean loss over (batch × width) embeddings, without its weight: max(0, d(a,p) - d(a,n) + margin)."""
    def distance(others: torch.Tensor) -> torch.Tensor:
        squared = (anchors.float() - others.float()).pow(2).sum(-1)
        return squared if config.distance == "squared" else (squared + 1e-12).sqrt()  # a gradient at 0, too

    return (distance(positives) - distance(negatives) + config.margin).clamp(min=0).mean()
