"""Agreement between the teacher's answers: a label, or set of tuples, counts when most prompts about a text give it.

A small teacher answers the same question differently in another format, or after other demonstrations; what it
says most of the time is right more often than what it says once. Ours; the paper trains on every answer.
"""

from collections import Counter, defaultdict

from distill.config.prompt_schema import IclDistPrompts
from distill.config.sections.filters import AgreementFilter
from distill.parsing.tuples import first_list
from distill.prompting.labels import meaning
from distill.run.records import Prompt

REASON = "disagrees"
_DETAIL = 200


def can_agree(prompt: Prompt) -> bool:
    """Return whether an answer to the prompt can agree with others: one label of a closed list, or tuples."""
    return bool(prompt.tuple_schema) or (
        prompt.family == "icldist" and bool(prompt.labels) and not prompt.multi_label)


class Votes:
    """What the prompts about each text say of one task. Of a prompt, only its id and its label are held."""

    def __init__(self, config: AgreementFilter, prompts: IclDistPrompts) -> None:
        """Count by ``config``: a label needs more than ``share`` of the prompts, and ``min_prompts`` of them.

        ``prompts`` are those that were asked.
        """
        self._config, self._prompts = config, prompts
        self._groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)

    def add(self, prompt: Prompt, label: str | None) -> None:
        """Take in a prompt that asks for one label or for tuples, and the answer to it as it is learned.

        '+1', 'POS', 'good' and 'positive' are one label; tuples are one set in whichever order. A prompt without an
        answer (it was dropped, or is off its list) votes for nothing, but counts.
        """
        said = "" if label is None else _as_set(label) if prompt.tuple_schema else meaning(
            self._prompts, label, prompt.labels)
        self._groups[prompt.text_id, prompt.kind.partition("/")[0]].append((prompt.id, said))

    def objections(self) -> dict[str, str]:
        """Return the ids of the answers that too few of the prompts about the same text and task give, with details."""
        found: dict[str, str] = {}
        for group in self._groups.values():
            votes = Counter(label for _, label in group)
            for key, label in group:
                if label and not self._enough(votes[label], len(group)):
                    found[key] = f"{label[:_DETAIL]}: {votes[label]} of {len(group)} prompts on this text"
        return found

    def _enough(self, votes: int, prompts: int) -> bool:
        return votes >= self._config.min_prompts and (votes > self._config.share * prompts or votes == prompts)


def _as_set(answer: str) -> str:
    return str(sorted(first_list(answer) or []))
