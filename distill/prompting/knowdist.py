"""KnowDist prompts: the teacher analyses and rewrites each text from several perspectives (Tables 9 and 10)."""

from collections.abc import Iterable, Iterator
from random import Random

from distill.config.schema import KnowDist
from distill.hashing import derived_rng
from distill.prompting.draft import Draft, in_hash_order
from distill.prompting.library import Entry, knowdist_file
from distill.prompting.template import fill
from distill.records import Text

BASIC = "basic"


def knowdist_drafts(texts: Iterable[Text], config: KnowDist, seed: int) -> Iterator[Draft]:
    """Yield the KnowDist prompts of every text, texts in hash order, as drafts.

    Each text gets ``prompts_per_text`` of them, methods in turn, so that two are one of each method. The
    perspectives are drawn for each text and method by hash: equal shares in expectation, and a text added
    to the corpus changes no other text's prompts. No text gets the same prompt twice, so there are never
    more than methods times perspectives.
    """
    prompts = knowdist_file()
    methods: dict[str, dict[str, Entry]] = {}
    if config.analyze:
        methods["analyze"] = prompts.analyze
    if config.rewrite:
        methods["rewrite"] = prompts.rewrite
    for text in in_hash_order(texts, seed):
        rng = derived_rng(seed, text.id, "knowdist")
        for method, perspective in _draw(rng, methods, config):
            question = fill(prompts.layout, Instruction=methods[method][perspective].instruction, Text=text.text)
            yield Draft("knowdist", f"{method}/{perspective}", text.id, text.text, question, seed)


def _draw(rng: Random, methods: dict[str, dict[str, Entry]], config: KnowDist) -> list[tuple[str, str]]:
    order = rng.sample(sorted(methods), len(methods))
    perspectives: dict[str, list[str]] = {}
    for method in order:
        names = sorted(name for name in methods[method] if (name != BASIC) == config.multi_perspective)
        perspectives[method] = rng.sample(names, len(names))
    rounds = zip(*(perspectives[method] for method in order), strict=True)
    drawn = [(method, perspective) for names in rounds for method, perspective in zip(order, names, strict=True)]
    return drawn[:config.prompts_per_text]
