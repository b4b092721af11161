"""KnowDist prompts: the teacher analyses and rewrites each text from several perspectives (Tables 9 and 10)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from distill.config.prompt_schema import Entry
from distill.config.schema import KnowDist
from distill.prompting.candidate import PromptCandidate
from distill.prompting.sampling import PromptRng, SystematicSampler
from distill.prompting.template import around
from distill.run.records import Text


@dataclass(frozen=True)
class _Template:
    """What stands around the text; ``head`` ends with a line."""

    kind: str
    head: str
    before: str
    after: str


class KnowDistCandidates:
    """The KnowDist prompts of one text at a time.

    A text has ``prompts_per_text`` of them, and never the same one twice: no more than methods times perspectives.
    Which ones is drawn for each text by itself, so that a text added to the corpus changes no other text's prompts.
    A method and a perspective together are drawn in proportion to the product of their weights (those of weight 0
    never), and no method a whole time more or less often than its share says: with equal weights, two prompts are one
    of each method, and perspectives come in equal shares.
    """

    def __init__(self, config: KnowDist, seed: int) -> None:
        prompts, kinds = config.prompts(), config.kinds()
        self._seed = seed
        self._sampler = SystematicSampler(kinds, config.prompts_per_text, once=True)
        self._templates = {
            (method, name): _template(f"{method}/{name}", prompts.layout, prompts.perspectives[name].methods[method])
            for method, weights in kinds.items() for name in weights}

    def __call__(self, text_id: str, text: str) -> list[PromptCandidate]:
        """Return the prompts of a text."""
        candidates = []
        for method, perspective in self._sampler.draw(PromptRng(self._seed, text_id, "knowdist")):
            template = self._templates[method, perspective]
            candidates.append(PromptCandidate(
                "knowdist", template.kind, text_id, text, template.before + text + template.after, self._seed,
                template.head, perspective=perspective, strategy=method))
        return candidates


def knowdist_candidates(texts: Iterable[Text], config: KnowDist, seed: int) -> Iterator[PromptCandidate]:
    """Yield the KnowDist prompts of texts, in their order, as candidates."""
    candidates_of = KnowDistCandidates(config, seed)
    for text in texts:
        yield from candidates_of(text.id, text.text)


def _template(kind: str, layout: str, entry: Entry) -> _Template:
    before, after = around(layout, "Text", Instruction=entry.instruction)
    head, end, rest = before.rpartition("\n")
    return _Template(kind, head + end, rest, after)
