"""Which layers of an encoder student are trained when, and the triplet loss."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.sections.encoder import TripletLoss, Unfreezing
from distill.encoder.data import Sentence


@given(st.sampled_from(["after_n", "layerwise"]), st.integers(0, 5), st.integers(1, 4), st.integers(1, 12))
def test_nothing_is_trained_before_its_epoch_and_what_is_stays_so(
        strategy: Any, epoch: int, interval: int, layers: int) -> None:
    from distill.encoder.unfreezing import trained_layers

    config = Unfreezing(strategy=strategy, epoch=epoch, interval=interval)
    counts = [trained_layers(config, layers, number) for number in range(epoch + interval * (layers + 2))]
    assert counts[:epoch] == [0] * epoch and counts[epoch] > 0 and counts[-1] == layers + 1
    assert counts == sorted(counts)
    steps = {after - before for before, after in zip(counts[epoch:], counts[epoch + 1:], strict=False)}
    assert steps <= {0} if strategy == "after_n" else steps <= {0, 1}


def test_layers_are_unfrozen_from_the_last_and_the_embeddings_at_the_end(encoders: Path) -> None:
    from distill.encoder.model import load_backbone
    from distill.encoder.unfreezing import unfreeze

    backbone = load_backbone(encoders / "tiny")
    for count, expected in ((0, set()), (1, {"encoder.layer.1"}), (2, {"encoder.layer.0", "encoder.layer.1"})):
        unfreeze(backbone, count)
        assert {".".join(name.split(".")[:3]) for name, weight in backbone.named_parameters()
                if weight.requires_grad} == expected
    unfreeze(backbone, 3)
    assert all(weight.requires_grad for weight in backbone.parameters())


@given(st.lists(st.integers(0, 4), min_size=5, max_size=40), st.integers(0, 5), st.integers(0, 3))
def test_a_triplet_has_a_positive_of_the_class_and_a_negative_next_to_it(
        labels: list[int], seed: int, epoch: int) -> None:
    from distill.encoder.triplets import Triplets

    labels = [*range(5), *labels]
    sentences = [Sentence(f"{place}", "text", label) for place, label in enumerate(labels)]
    for place, label in enumerate(labels):
        positive, negative = Triplets(sentences, seed).draw(place, epoch)
        assert labels[positive] == label and abs(labels[negative] - label) == 1
        assert positive != place or labels.count(label) == 1
        assert (positive, negative) == Triplets(sentences, seed).draw(place, epoch)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 5))
def test_triplets_of_a_batch_are_in_it_and_none_is_made_up(labels: list[int], seed: int) -> None:
    from distill.encoder.triplets import Triplets

    everything = [*range(5), *labels]
    sentences = [Sentence(f"{place}", "text", label) for place, label in enumerate(everything)]
    batch = list(range(5, len(everything)))
    found = Triplets(sentences, seed).draw_in(batch, 0)
    possible = [number for number, label in enumerate(labels)
                if labels.count(label) > 1 and {label - 1, label + 1} & set(labels)]
    assert [anchor for anchor, _, _ in found] == possible
    for anchor, positive, negative in found:
        assert labels[positive] == labels[anchor] and positive != anchor and abs(labels[negative] - labels[anchor]) == 1


def test_the_triplet_loss_is_equation_1() -> None:
    import torch

    from distill.encoder.triplets import triplet_loss

    anchor, positive, negative = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])
    assert triplet_loss(TripletLoss(distance="squared"), anchor, positive, negative).item() == 25 - 4 + 1
    plain = triplet_loss(TripletLoss(distance="euclidean"), anchor, positive, negative)
    assert plain.item() == pytest.approx(5 - 2 + 1)
    assert triplet_loss(TripletLoss(margin=1), anchor, anchor, positive).item() == 0
