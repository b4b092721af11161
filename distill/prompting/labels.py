"""Label words and label taxonomies: a demonstration's labels in the words of the prompt it stands in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from distill.errors import InputError
from distill.prompting.library import icldist_file


def respell(label: str, labels: Iterable[str]) -> str | None:
    """Return ``label`` in the spelling it has in ``labels`` ('sad' and 'sadness' are one label), None if not there."""
    known = list(labels)
    if label in known:
        return label
    for group in icldist_file().spellings:
        if label in group:
            return next((other for other in group if other in known), None)
    return None


def python_list(labels: Sequence[str]) -> str:
    """Render labels as Tables 11 and 12 print them: ``['happiness', 'sad']``."""
    return "[" + ", ".join(f"'{label}'" for label in labels) + "]"


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


def meaning(label: str, labels: Sequence[str]) -> str:
    """Return what the pool calls a label of a prompt's list: '+1' and 'POS' are both 'positive'.

    A label, or list, that ``prompts/icldist.yaml`` does not know means itself.
    """
    for name in icldist_file().label_sets:
        known = label_set(name)
        if known.labels == tuple(labels) and label in known.labels:
            return known.names[known.labels.index(label)]
    return label


def label_set(name: str) -> LabelSet:
    """Return a label set of ``prompts/icldist.yaml`` (Tables 11 and 12).

    Raises:
        InputError: the file has no such set, or names and labels differ in number.
    """
    entry = icldist_file().label_sets.get(name)
    if entry is None:
        raise InputError(f"prompts/icldist.yaml uses the label set '{name}', but does not define it.")
    names = entry.names or entry.labels
    if len(names) != len(entry.labels):
        raise InputError(f"The label set '{name}' of prompts/icldist.yaml has {len(names)} names for "
                         f"{len(entry.labels)} labels.")
    return LabelSet(name, entry.field, tuple(names), tuple(entry.labels))
