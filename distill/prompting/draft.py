"""A prompt before it is known how many of its demonstrations fit."""

from collections.abc import Iterable
from dataclasses import dataclass

from distill.hashing import content_id, derived_seed, hash_order
from distill.records import Prompt, Text


@dataclass(frozen=True, slots=True)
class Draft:
    """The pieces of one prompt: ``head``, any number of ``demonstrations``, and the ``question`` with the user's text.

    ``fewest`` demonstrations must stay when the prompt is shortened. ``seed`` is the run's seed; ``text`` is
    the user's text, for people who look at what was dropped.
    """

    family: str
    kind: str
    text_id: str
    text: str
    question: str
    seed: int
    head: str = ""
    demonstrations: tuple[str, ...] = ()
    fewest: int = 0
    labels: tuple[str, ...] = ()
    multi_label: bool = False

    def render(self, demonstrations: int | None = None) -> Prompt:
        """Return the prompt with its last ``demonstrations`` demonstrations (default: all of them).

        Shortening drops from the front, so that what stands next to the question stays. The id depends on
        family, kind, prompt text and text id, and the engine's seed on the id and the run's seed.
        """
        count = len(self.demonstrations) if demonstrations is None else demonstrations
        kept = self.demonstrations[len(self.demonstrations) - count:]
        prompt = self.head + "".join(kept) + self.question
        key = content_id(self.family, self.kind, prompt, self.text_id)
        return Prompt(key, self.text_id, self.family, self.kind, prompt, list(self.labels), self.multi_label, count,
                      derived_seed(self.seed, key, "teacher"))


def in_hash_order(texts: Iterable[Text], seed: int, backwards: bool = False) -> list[Text]:
    """Return the texts in an order that depends on their ids and the seed alone.

    KnowDist takes texts from the front of this order and ICLDist from its back: a corpus that has enough
    texts for both gives each its own, and a smaller one shares as few as it can.
    """
    return sorted(texts, key=lambda text: (hash_order(seed, text.id, "prompt texts"), text.id), reverse=backwards)
