"""How a student is asked about a text: as it was trained, in the BASIC prompt of a task with its standard labels."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill.config.prompt_schema import BASIC, IclDistPrompts
from distill.errors import InputError
from distill.prompting.demonstrations import Demonstration, places_of
from distill.prompting.few_shot import LabelPrompt, TuplePrompt
from distill.prompting.labels import label_set
from distill.prompting.template import around


@dataclass(frozen=True)
class Question:
    """How a text is asked about: what stands ``before`` and ``after`` it, and the labels that answer; or the schema of
    the tuples (JSON)."""

    before: str
    after: str
    labels: list[str]
    multi_label: bool
    chat: bool
    tuple_schema: str = ""

    def prompt(self, text: str) -> str:
        """Return the prompt of a text."""
        return self.before + text + self.after


_SHOTS = 6


def question_of(prompts: IclDistPrompts, task: str, pool: Sequence[Demonstration], shots: int | None, chat: bool
                ) -> Question:
    """Return how a task is asked, with so many demonstrations of the ``pool``: the same before every text, so that
    all that stands before a text is computed once for many. ``shots`` None: six, or as many as there are.

    Raises:
        InputError: the pool has not as many.
    """
    if prompts.tasks[task].tuple_schema is not None:
        return _tuple_question(prompts, task, [pool[place] for place in places_of(pool, task)], shots, chat)
    labels = label_set(prompts, prompts.tasks[task].formats[BASIC].label_sets[0])
    prompt = LabelPrompt(prompts, task, BASIC, labels.labels)
    shown = [(item.text, answer) for item in (pool[place] for place in places_of(pool, task))
             if (answer := labels.rewrite(item.answers.get(labels.field, ())))]
    shots = _number_shown(shots, task, len(shown))
    before, after = around(prompts.layout_of(task).question, "Text")
    head = prompt.head + "".join(prompt.demonstration(*one) for one in _spread(shown, shots))
    return Question(head + before, after, list(labels.labels), prompts.tasks[task].multi_label, chat)


def _tuple_question(prompts: IclDistPrompts, task: str, pool: Sequence[Demonstration], shots: int | None, chat: bool
                    ) -> Question:
    prompt, schema = TuplePrompt(prompts, task, BASIC), prompts.tasks[task].tuple_schema
    shots = _number_shown(shots, task, len(pool))
    before, after = around(prompts.layout_of(task).question, "Text")
    head = prompt.head + "".join(prompt.demonstration(one.text, one.tuples) for one in pool[:shots])
    return Question(head + before, after, [], False, chat, schema.model_dump_json() if schema else "")


def _number_shown(shots: int | None, task: str, there: int) -> int:
    if shots is not None and not 0 <= shots <= there:
        raise InputError(f"--shots is {shots}, but the task '{task}' has {there} demonstrations. Give a number "
                         f"from 0 to {there}.")
    return min(_SHOTS, there) if shots is None else shots


def _spread(shown: Sequence[tuple[str, list[str]]], count: int) -> list[tuple[str, list[str]]]:
    """Take some demonstrations, as many of one first label as of another, in the order of the pool."""
    rounds: dict[str, int] = {}
    order = []
    for place, (_, labels) in enumerate(shown):
        rounds[labels[0]] = rounds.get(labels[0], 0) + 1
        order.append((rounds[labels[0]], place))
    return [shown[place] for _, place in sorted(order)[:count]]
