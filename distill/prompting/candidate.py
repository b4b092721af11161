"""A prompt before it is known how many of its demonstrations fit."""

from typing import NamedTuple

from distill.prompting.few_shot import join
from distill.run.hashing import content_id, content_rank
from distill.run.records import Prompt


class PromptCandidate(NamedTuple):
    """The pieces of one prompt: ``head``, any number of ``demonstrations``, and the ``question`` with the user's text.

    ``min_demonstrations`` must stay when the prompt is shortened. ``seed`` is the run's seed; ``text`` is
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
    min_demonstrations: int = 0
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    perspective: str = ""
    strategy: str = ""
    tuple_schema: str = ""

    def prompt(self, demonstrations: int) -> str:
        """Return the prompt's text with its last ``demonstrations`` demonstrations.

        Shortening drops from the front, so that what stands next to the question stays.
        """
        return join(self.head, self.demonstrations[len(self.demonstrations) - demonstrations:], self.question)

    def render(self, demonstrations: int | None = None) -> Prompt:
        """Return the prompt with its last ``demonstrations`` demonstrations (default: all of them).

        The id depends on family, kind, prompt text and text id, and the engine's seed on the id and the run's seed.
        """
        count = len(self.demonstrations) if demonstrations is None else demonstrations
        prompt = self.prompt(count)
        key = content_id(self.family, self.kind, prompt, self.text_id)
        return Prompt(key, self.text_id, self.family, self.kind, prompt, list(self.labels), self.multi_label, count,
                      content_rank(self.seed, key, "teacher") >> 33, self.perspective, self.strategy,
                      self.tuple_schema, self.text if self.tuple_schema else "")
