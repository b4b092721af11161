"""Label words and label taxonomies: a demonstration's labels in the words of the prompt it stands in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill.config.prompt_files import icldist_prompts
from distill.config.prompt_schema import IclDistPrompts


def respell(label: str, labels: Iterable[str]) -> str | None:
    """Return ``label`` in the spelling it has in ``labels`` ('sad' and 'sadness' are one label), None if not there."""
    known = list(labels)
    if label in known:
        return label
    for group in icldist_prompts().spellings:
        if label in group:
            return next((other for other in group if other in known), None)
    return None


def python_list(labels: Sequence[str]) -> str:
    """Render labels as Tables 11 and 12 print them: ``['happiness', 'sad']``."""
    return "[" + ", ".join(map(quoted, labels)) + "]"


def quoted(label: str) -> str:
    """Return a label as :func:`python_list` has it."""
    return f"'{label}'"


def answer_text(labels: Sequence[str], multi_label: bool) -> str:
    """Return an answer as demonstrations show it: a list of labels, or the one (first) label as it stands."""
    return python_list(labels) if multi_label else labels[0]


@dataclass(frozen=True)
class LabelSet:
    """One closed list of labels. ``names[i]`` is what the pool's column ``field`` calls ``labels[i]``."""

    name: str
    field: str
    names: tuple[str, ...]
    labels: tuple[str, ...]

    def rewrite(self, answers: Iterable[str]) -> list[str]:
        """Return a demonstration's labels in this set's words, leaving out those the set has none for.

        ``neutral`` has no word among Ekman's six emotions: such a demonstration answers with an empty list.
        """
        known = dict(zip(self.names, self.labels, strict=True))
        spelled = (respell(answer, self.names) for answer in answers)
        return [known[name] for name in spelled if name is not None]

    def shown(self, answers: Iterable[str], multi_label: bool) -> list[str]:
        """Return what a demonstration answers in this set's words: all of its labels, or the first alone; or none."""
        return self.rewrite(answers)[:None if multi_label else 1]


def meaning(prompts: IclDistPrompts, label: str, labels: Sequence[str]) -> str:
    """Return what the pool calls a label of a prompt's list: '+1' and 'POS' are both 'positive'.

    A label, or list, that the prompt files do not know means itself.
    """
    for name in prompts.label_sets:
        known = label_set(prompts, name)
        if known.labels == tuple(labels) and label in known.labels:
            return known.names[known.labels.index(label)]
    return label


def label_set(prompts: IclDistPrompts, name: str) -> LabelSet:
    """Return a label set of the ICLDist prompt files (Tables 11 and 12)."""
    entry = prompts.label_sets[name]
    return LabelSet(name, entry.field or name, tuple(entry.names or entry.labels), tuple(entry.labels))
