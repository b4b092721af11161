"""ICLDist prompts: sentiment and emotion tasks in many formats, with demonstrations (Tables 11 and 12)."""

from collections.abc import Iterable, Iterator, Sequence
from random import Random

from distill.config.schema import IclDist
from distill.hashing import derived_rng
from distill.prompting.demonstrations import Demonstration, normalised
from distill.prompting.draft import Draft, in_hash_order
from distill.prompting.labels import LabelSet, label_set, python_list
from distill.prompting.library import Task, icldist_file
from distill.prompting.template import fill
from distill.records import Text

MINIMIZED = "mi"


def enabled_formats(task: Task, config: IclDist) -> dict[str, list[str]]:
    """Return the formats that ``config`` switches on for a task, each with the label sets it draws from.

    Minimised instructions name no labels; their demonstrations use the labels of the other enabled formats.
    """
    switches = {"lw": config.label_words, "lt": config.label_taxonomies}
    formats = {"basic": task.formats["basic"].label_sets}
    if switches[task.diversified]:
        formats[task.diversified] = task.formats[task.diversified].label_sets
    if config.minimized_instructions:
        formats[MINIMIZED] = [name for sets in formats.values() for name in sets]
    return formats


def icldist_drafts(
    texts: Iterable[Text], pool: Sequence[Demonstration], config: IclDist, seed: int
) -> Iterator[Draft]:
    """Yield ``config.prompts_per_text`` ICLDist prompts for every text, texts in reversed hash order, as drafts.

    Task, format, label set, number of demonstrations and the demonstrations are drawn uniformly, each text
    for itself. A demonstration never has the text of the question. Several prompts on a text are of one task
    and, as far as there are enough, of different formats.
    """
    prompts = icldist_file()
    tasks = {name: (task, enabled_formats(task, config)) for name, task in sorted(prompts.tasks.items())}
    sets = {name: label_set(name) for name in prompts.label_sets}
    keys = [normalised(item.text) for item in pool]

    def draft(text: Text, task_name: str, format_name: str, rng: Random) -> Draft:
        task, formats = tasks[task_name]
        labels = sets[rng.choice(formats[format_name])]
        own = normalised(text.text)
        candidates = [item for item, key in zip(pool, keys, strict=True) if key != own]
        shown = _draw(rng, candidates, labels, config, minimized=format_name == MINIMIZED)
        instruction = task.formats[format_name].instruction
        if format_name != MINIMIZED:
            instruction = fill(instruction, Labels=python_list(labels.labels))
        return Draft(
            "icldist", f"{task_name}/{format_name}", text.id, text.text,
            question=fill(prompts.layout.question, Text=text.text), seed=seed,
            head=fill(prompts.layout.instruction, Instruction=instruction),
            demonstrations=tuple(
                fill(prompts.layout.demonstration, Text=item.text, Answer=_answer(item, labels, task.multi_label))
                for item in shown),
            fewest=min(len(shown), _fewest(config, format_name == MINIMIZED)),
            labels=labels.labels, multi_label=task.multi_label)

    for text in in_hash_order(texts, seed, backwards=True):
        rng = derived_rng(seed, text.id, "icldist")
        task_name = rng.choice(list(tasks))
        formats = list(tasks[task_name][1])
        unused: list[str] = []
        for number in range(config.prompts_per_text):
            rng = rng if number == 0 else derived_rng(seed, text.id, f"icldist {number}")
            unused = unused or formats.copy()
            format_name = rng.choice(unused)
            unused.remove(format_name)
            yield draft(text, task_name, format_name, rng)


def _fewest(config: IclDist, minimized: bool) -> int:
    return max(1, config.min_demonstrations) if minimized else config.min_demonstrations


def _answer(item: Demonstration, labels: LabelSet, multi_label: bool) -> str:
    answer = labels.rewrite(item.answers[labels.field])
    return python_list(answer) if multi_label else answer[0]


def _draw(
    rng: Random, candidates: Sequence[Demonstration], labels: LabelSet, config: IclDist, minimized: bool
) -> list[Demonstration]:
    fewest = _fewest(config, minimized)
    count = min(rng.randint(fewest, max(fewest, config.max_demonstrations)), len(candidates))
    shuffled = rng.sample(candidates, len(candidates))
    if not minimized:
        return shuffled[:count]
    shown = _covering(shuffled, labels, count)
    return rng.sample(shown, len(shown))


def _covering(shuffled: Sequence[Demonstration], labels: LabelSet, count: int) -> list[Demonstration]:
    """Prefer demonstrations with labels not shown yet: a minimised prompt says its labels by them alone."""
    first: list[Demonstration] = []
    rest: list[Demonstration] = []
    seen: set[str] = set()
    for item in shuffled:
        answer = set(labels.rewrite(item.answers[labels.field]))
        (rest if answer <= seen else first).append(item)
        seen |= answer
    return (first + rest)[:count]
