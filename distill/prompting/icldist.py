"""ICLDist prompts: sentiment and emotion tasks in many formats, with demonstrations (Tables 11 and 12)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import or_

from distill.config.schema import IclDist
from distill.prompting.candidate import PromptCandidate
from distill.prompting.demonstrations import Demonstration, normalised
from distill.prompting.labels import LabelSet, label_set, python_list
from distill.prompting.library import Task, icldist_file
from distill.prompting.sampling import PromptRng, SystematicSampler
from distill.prompting.template import around, fill
from distill.run.records import Text

MINIMIZED = "mi"


def enabled_formats(task: Task, config: IclDist) -> dict[str, list[str]]:
    """Return the formats that ``config`` switches on for a task, each with the label sets it draws from.

    Minimised instructions name no labels; their demonstrations use the labels of BASIC, and those of the task's other
    format if it is enabled. A format of weight 0 is not.
    """
    switches = {"lw": config.label_words, "lt": config.label_taxonomies}
    weights = config.weights.model_dump()
    formats = {"basic": task.formats["basic"].label_sets}
    if switches[task.diversified] and weights[task.diversified]:
        formats[task.diversified] = task.formats[task.diversified].label_sets
    if config.minimized_instructions and weights[MINIMIZED]:
        formats[MINIMIZED] = [name for sets in formats.values() for name in sets]
    return {name: sets for name, sets in formats.items() if weights[name]}


@dataclass(frozen=True)
class _Variant:
    """A task in one format with one label set. ``blocks`` are the demonstrations of the pool, as they are printed.

    ``shows`` has a bit for every label that a demonstration's answer shows, ``every`` those that any shows.
    """

    kind: str
    strategy: str
    head: str
    blocks: tuple[str, ...]
    shows: tuple[int, ...]
    every: int
    labels: LabelSet
    multi_label: bool
    fewest: int


class IclDistDrafts:
    """The ICLDist prompts of one text at a time, ``prompts_per_text`` of them.

    All prompts of a text are of one task, drawn by the weights of the tasks; their formats (strategies) are drawn by
    the weights of those the task has, as different ones as the weights allow: with equal weights, no format comes
    twice before all have come. Label set, number of demonstrations and the demonstrations are drawn uniformly, each
    text for itself. A demonstration never has the text of the question.
    """

    def __init__(self, config: IclDist, pool: Sequence[Demonstration], seed: int) -> None:
        prompts, weights = icldist_file(), config.weights.model_dump()
        formats = {name: enabled_formats(task, config) for name, task in sorted(prompts.tasks.items())}
        self._config, self._seed = config, seed
        self._tasks = SystematicSampler({name: {name: weights[name]} for name in formats}, 1, once=False)
        self._formats = {task: SystematicSampler({name: {name: weights[name]} for name in names},
                                                 config.prompts_per_text, once=False)
                         for task, names in formats.items()}
        self._variants = {(task, name): [_variant(prompts.tasks[task], task, name, label_set(labels), pool, config)
                                         for labels in sets]
                          for task, names in formats.items() for name, sets in names.items()}
        self._question = around(prompts.layout.question, "Text")
        self._everything = list(range(len(pool)))
        self._places = {normalised(item.text): place for place, item in enumerate(pool)}
        self._first_words = {key.split(" ", 1)[0] for key in self._places}

    def __call__(self, text_id: str, text: str) -> list[PromptCandidate]:
        """Return the prompts of a text."""
        draws = PromptRng(self._seed, text_id, "icldist")
        ((task, _),) = self._tasks.draw(draws)
        usable = self._usable(text)
        drafts = []
        for number, (name, _) in enumerate(self._formats[task].draw(draws)):
            variants = self._variants[task, name]
            own = draws if number == 0 else PromptRng(self._seed, text_id, f"icldist {number}")
            drafts.append(self._draft(text_id, text, variants[own.below(len(variants))], usable, own))
        return drafts

    def _draft(self, text_id: str, text: str, variant: _Variant, usable: list[int], draws: PromptRng
               ) -> PromptCandidate:
        fewest = variant.fewest
        most = max(fewest, self._config.max_demonstrations)
        count = min(fewest + draws.below(most - fewest + 1), len(usable))
        shuffled = draws.shuffled(usable.copy())
        if variant.strategy == MINIMIZED:
            shown = list(draws.shuffled(_covering(shuffled, variant, count)))
        else:
            shown = list(islice(shuffled, count))
        before, after = self._question
        return PromptCandidate("icldist", variant.kind, text_id, text, before + text + after, self._seed, variant.head,
                     tuple([variant.blocks[place] for place in shown]), min(count, fewest), variant.labels.labels,
                     variant.multi_label, strategy=variant.strategy)

    def _usable(self, text: str) -> list[int]:
        """Return the places in the pool of the demonstrations that are not this text."""
        words = text.split(None, 1)  # most texts are known by their first word to be none of the pool
        if words and words[0].casefold() in self._first_words:
            own = self._places.get(normalised(text))
            return [place for place in self._everything if place != own]
        return self._everything


def icldist_drafts(texts: Iterable[Text], pool: Sequence[Demonstration], config: IclDist, seed: int
                   ) -> Iterator[PromptCandidate]:
    """Yield the ICLDist prompts of texts, in their order, as drafts."""
    drafts_of = IclDistDrafts(config, pool, seed)
    for text in texts:
        yield from drafts_of(text.id, text.text)


def _variant(task: Task, task_name: str, format_name: str, labels: LabelSet, pool: Sequence[Demonstration],
             config: IclDist) -> _Variant:
    layout, instruction = icldist_file().layout, task.formats[format_name].instruction
    if format_name != MINIMIZED:
        instruction = fill(instruction, Labels=python_list(labels.labels))
    answers = [labels.rewrite(item.answers[labels.field]) for item in pool]
    shows = tuple(sum(1 << labels.labels.index(label) for label in set(answer)) for answer in answers)
    return _Variant(
        f"{task_name}/{format_name}", format_name, fill(layout.instruction, Instruction=instruction),
        tuple(fill(layout.demonstration, Text=item.text, Answer=python_list(answer) if task.multi_label else answer[0])
              for item, answer in zip(pool, answers, strict=True)),
        shows, reduce(or_, shows, 0), labels, task.multi_label,
        max(1, config.min_demonstrations) if format_name == MINIMIZED else config.min_demonstrations)


def _covering(shuffled: Iterator[int], variant: _Variant, count: int) -> list[int]:
    """Prefer demonstrations with labels not shown yet: a minimised prompt says its labels by them alone."""
    first: list[int] = []
    rest: list[int] = []
    seen = 0
    for place in shuffled:
        (first if variant.shows[place] & ~seen else rest).append(place)
        seen |= variant.shows[place]
        if len(first) == count or (seen == variant.every and len(first) + len(rest) >= count):
            break
    return (first + rest)[:count]
