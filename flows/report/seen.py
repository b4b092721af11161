"""Which tasks of an evaluation a run's distillation has trained on the kind of."""

from pathlib import Path

from distill.config.schema import Config
from distill.dataset.composition import other_prompts
from distill.parsing.tuple_answer import schema_of
from distill.prompting.kept import kept_icldist
from sentibench.registry import all_tasks

_SAME = {"aspect term": "aspect", "target": "aspect", "aspect category": "category", "opinion term": "opinion",
         "expression": "opinion", "sentiment expression": "opinion", "sentiment": "polarity",
         "sentiment polarity": "polarity", "source": "holder"}
"""Names of fields that mean the same."""


def seen_tasks(run: Path, config: Config) -> frozenset[str]:
    """Return the names of the tasks whose kind was distilled.

    Of SentiBench, those that the paper counts as seen, and the tuple tasks with the fields of a tuple task that the run
    distilled (whatever their order, and by whichever of the usual names); of a user's own, those that it distilled.
    """
    tasks = all_tasks().values()
    seen = {task.name for task in tasks if task.seen}
    others = {(one.kind, one.tuple_schema) for one in other_prompts(run) if one.family == "icldist"}
    seen |= {kind.partition("/")[0] for kind, _ in others}
    kinds = [_kind(schema_of(schema).fields) for schema in {schema for _, schema in others} - {""}]
    if config.prompts.icldist.samples:
        prompts = kept_icldist(run)
        weights = {**prompts.weights, **config.prompts.icldist.weights}
        distilled = {name: task for name, task in prompts.tasks.items() if weights[name]}
        seen |= distilled.keys()
        kinds += [_kind(task.tuple_schema.fields) for task in distilled.values() if task.tuple_schema is not None]
    return frozenset({*seen, *(task.name for task in tasks if task.fields and _kind(task.fields) in kinds)})


def _kind(fields: list[str] | tuple[str, ...]) -> frozenset[str]:
    return frozenset(_SAME.get(name.casefold(), name.casefold()) for name in fields)
