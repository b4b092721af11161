"""Agreement between the teacher's answers: a label counts when most prompts about the same text give it.

A small teacher answers the same question differently in another format, or after other demonstrations; what it
says most of the time is right more often than what it says once. Ours; the paper trains on every answer.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from distill.prompting.labels import meaning
from distill.records import Prompt

REASON = "disagrees"
FEWEST = 2


def asks_one_label(prompt: Prompt) -> bool:
    """Return whether an answer to the prompt can agree with others: one label of a closed list."""
    return prompt.family == "icldist" and bool(prompt.labels) and not prompt.multi_label


def disagreements(prompts: Sequence[Prompt], answers: Mapping[str, str]) -> dict[str, str]:
    """Return the ids of the answers that are not what most prompts about the same text and task say, with details.

    ``answers`` are labels by prompt id, as the prompt spells them; a prompt without one (dropped before, or
    off its list) votes for nothing, but counts. A label needs more than half of the prompts, and two at least.
    '+1', 'POS', 'good' and 'positive' are one label.
    """
    groups: dict[tuple[str, str], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        if asks_one_label(prompt):
            groups[prompt.text_id, prompt.kind.partition("/")[0]].append(prompt)
    found: dict[str, str] = {}
    for group in groups.values():
        said = {prompt.id: meaning(answers[prompt.id], prompt.labels) for prompt in group if prompt.id in answers}
        votes = Counter(said.values())
        for key, label in said.items():
            if votes[label] < FEWEST or 2 * votes[label] <= len(group):
                found[key] = f"{label}: {votes[label]} of {len(group)} prompts on this text"
    return found
