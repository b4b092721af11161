"""ICLDist prompts: sentiment and emotion tasks in many formats, with demonstrations (Tables 11 and 12)."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import or_

from distill.config.prompt_schema import MINIMIZED
from distill.config.schema import IclDist
from distill.prompting.candidate import PromptCandidate
from distill.prompting.demonstrations import Demonstration, normalised, places_of
from distill.prompting.few_shot import LabelPrompt, TuplePrompt
from distill.prompting.labels import LabelSet, answer_text, label_set
from distill.prompting.sampling import PromptRng, SystematicSampler
from distill.prompting.template import around
from distill.prompting.tuples import tuples_text
from distill.run.records import Text


@dataclass(frozen=True)
class Variant:
    """A task in one format with one label set.

    ``places`` are those of the task's demonstrations in the pool, ``blocks`` these by place, as they are printed, and
    ``answers`` what they answer; ``shows`` has a bit for every label (or value of a closed field) that a
    demonstration's answer shows, ``every`` those that any shows.
    """

    task: str
    strategy: str
    head: str
    places: list[int]
    blocks: dict[int, str]
    answers: dict[int, str]
    shows: dict[int, int]
    every: int
    labels: tuple[str, ...]
    multi_label: bool
    tuple_schema: str
    min_demonstrations: int


class IclDistCandidates:
    """The ICLDist prompts of one text at a time, ``prompts_per_text`` of them.

    All prompts of a text are of one task, drawn by the weights of the tasks; their formats (strategies) are drawn by
    the weights of those the task has, as different ones as the weights allow: with equal weights, no format comes
    twice before all have come. Label set, number of demonstrations and the demonstrations are drawn uniformly, each
    text for itself. A demonstration never has the text of the question.
    """

    def __init__(self, config: IclDist, pool: Sequence[Demonstration], seed: int) -> None:
        prompts = config.prompts()
        weights = {**prompts.weights, **config.weights}
        formats = {name: config.formats(name) for name in sorted(prompts.tasks) if weights[name]}
        self._config, self._seed = config, seed
        self._tasks = SystematicSampler({name: {name: weights[name]} for name in formats}, 1, once=False)
        self._formats = {task: SystematicSampler({name: {name: weights[name]} for name in names},
                                                 config.prompts_per_text, once=False)
                         for task, names in formats.items()}
        self._variants = {(task, name): [_variant(config, task, name, label_set(prompts, labels), pool)
                                         for labels in sets]
                          if prompts.tasks[task].tuple_schema is None else [_tuple_variant(config, task, name, pool)]
                          for task, names in formats.items() for name, sets in names.items()}
        self._questions = {task: around(prompts.layout_of(task).question, "Text") for task in formats}
        self._places: dict[str, set[int]] = {}
        for place, item in enumerate(pool):
            self._places.setdefault(normalised(item.text), set()).add(place)
        self._first_words = {key.split(" ", 1)[0] for key in self._places}

    def __call__(self, text_id: str, text: str) -> list[PromptCandidate]:
        """Return the prompts of a text."""
        rng = PromptRng(self._seed, text_id, "icldist")
        ((task, _),) = self._tasks.draw(rng)
        own_places = self._own_places(text)
        candidates = []
        for number, (name, _) in enumerate(self._formats[task].draw(rng)):
            variants = self._variants[task, name]
            own = rng if number == 0 else PromptRng(self._seed, text_id, f"icldist {number}")
            candidates.append(self._candidate(text_id, text, variants[own.below(len(variants))], own_places, own))
        return candidates

    def of_pool(self, place: int, text_id: str, text: str, without: Collection[int]
                ) -> Iterator[tuple[PromptCandidate, str]]:
        """Yield the prompts of a text of the pool, one in every format with every label set, each with its answer.

        They show no demonstrations of that text, nor those at the places ``without``.
        """
        hidden = {place, *without, *self._own_places(text)}
        for (task, name), variants in self._variants.items():
            for number, variant in enumerate(variants):
                if place in variant.answers:
                    rng = PromptRng(self._seed, text_id, f"icldist pool {task}/{name} {number}")
                    yield self._candidate(text_id, text, variant, hidden, rng), variant.answers[place]

    def _candidate(self, text_id: str, text: str, variant: Variant, own_places: set[int], rng: PromptRng
               ) -> PromptCandidate:
        usable = ([place for place in variant.places if place not in own_places] if own_places
                  else variant.places.copy())
        least = variant.min_demonstrations
        most = max(least, self._config.max_demonstrations)
        count = min(least + rng.below(most - least + 1), len(usable))
        shuffled = rng.shuffled(usable)
        if variant.strategy == MINIMIZED:
            shown = list(rng.shuffled(_covering(shuffled, variant, count)))
        else:
            shown = list(islice(shuffled, count))
        before, after = self._questions[variant.task]
        return PromptCandidate(
            "icldist", f"{variant.task}/{variant.strategy}", text_id, text, before + text + after, self._seed,
            variant.head, tuple([variant.blocks[place] for place in shown]), min(count, least), variant.labels,
            variant.multi_label, strategy=variant.strategy, tuple_schema=variant.tuple_schema)

    def _own_places(self, text: str) -> set[int]:
        """Return the places in the pool that have this text."""
        words = text.split(None, 1)  # most texts are known by their first word to be none of the pool
        if words and words[0].casefold() in self._first_words:
            return self._places.get(normalised(text), set())
        return set()


def icldist_candidates(texts: Iterable[Text], pool: Sequence[Demonstration], config: IclDist, seed: int
                   ) -> Iterator[PromptCandidate]:
    """Yield the ICLDist prompts of texts, in their order, as candidates."""
    candidates_of = IclDistCandidates(config, pool, seed)
    for text in texts:
        yield from candidates_of(text.id, text.text)


def label_variants(config: IclDist, pool: Sequence[Demonstration]) -> Iterator[Variant]:
    """Yield the label tasks that a config asks, in each format with each label set."""
    prompts = config.prompts()
    weights = {**prompts.weights, **config.weights}
    for task in sorted(prompts.tasks):
        if weights[task] and prompts.tasks[task].tuple_schema is None:
            for strategy, sets in config.formats(task).items():
                for name in sets:
                    yield _variant(config, task, strategy, label_set(prompts, name), pool)


def _variant(config: IclDist, task: str, strategy: str, labels: LabelSet, pool: Sequence[Demonstration]) -> Variant:
    prompts = config.prompts()
    prompt = LabelPrompt(prompts, task, strategy, labels.labels)
    multi_label = prompts.tasks[task].multi_label
    # A text that has none of the set's labels shows nothing where one label answers.
    answers = {place: answer for place in places_of(pool, task)
               if (answer := labels.shown(pool[place].answers[labels.field], multi_label)) or multi_label}
    shows = {place: sum(1 << labels.labels.index(label) for label in set(answer)) for place, answer in answers.items()}
    least = max(1, config.min_demonstrations) if strategy == MINIMIZED else config.min_demonstrations
    return Variant(
        task, strategy, prompt.head, list(answers),
        {place: prompt.demonstration(pool[place].text, answer) for place, answer in answers.items()},
        {place: answer_text(answer, multi_label) for place, answer in answers.items()},
        shows, reduce(or_, shows.values(), 0), labels.labels, multi_label, "", least)


def _tuple_variant(config: IclDist, task: str, strategy: str, pool: Sequence[Demonstration]) -> Variant:
    prompts = config.prompts()
    schema, prompt = prompts.tasks[task].tuple_schema, TuplePrompt(prompts, task, strategy)
    places = places_of(pool, task)
    # In front, whether a text may have no tuple; then the values of the closed fields, place by place.
    bits = {key: 1 << at for at, key in enumerate(
        [(-1, ""), *((place, value) for place, values in enumerate(schema.allowed() if schema else [])
                     for value in values)])}
    shows = {place: reduce(or_, (bits.get(key, 0) for one in pool[place].tuples for key in enumerate(one)),
                           0 if pool[place].tuples else bits[-1, ""]) for place in places}
    least = max(1, config.min_demonstrations) if strategy == MINIMIZED else config.min_demonstrations
    return Variant(
        task, strategy, prompt.head, places,
        {place: prompt.demonstration(pool[place].text, pool[place].tuples) for place in places},
        {place: tuples_text(pool[place].tuples) for place in places},
        shows, reduce(or_, shows.values(), 0), (), False, schema.model_dump_json() if schema else "", least)


def _covering(shuffled: Iterator[int], variant: Variant, count: int) -> list[int]:
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
