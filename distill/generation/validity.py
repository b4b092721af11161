"""Whether a teacher's answers are worth asking for more: a stage that mostly fails is stopped after its pilot.

Not what filters drop, which is a matter of taste: what nothing can be learned from whatever the settings of filters.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distill.errors import RunError
from distill.parsing import reasoning
from distill.parsing.labels import parse_answer
from distill.parsing.tuple_answer import NOT_IN_TEXT, UNREADABLE_TUPLES, read_tuple_answer, schema_of
from distill.run.records import Prompt, Response

EMPTY, TRUNCATED, OFF_LIST = "empty", "truncated", "off_list"
BAD = "bad:"
"""Before a reason, where it is counted beside rows and tokens."""
ENOUGH = 16
"""Fewer answers say nothing of a teacher."""
_EXCERPT = 160
_EXAMPLES = 3
_ADVICE = {
    "empty": "the server may keep the answer in another field, a stop string may end it at once, or a filter remove it",
    "truncated": "raise max_tokens in teacher.sampling, or have it stop at a stop string",
    reasoning.TRUNCATED: "the teacher reasons first: raise max_tokens in teacher.sampling by thousands, or switch its "
                         "reasoning off",
    UNREADABLE_TUPLES: "show it more demonstrations, take a more capable teacher, or one that is held to the form "
                       "(teacher.structured)",
    "off_list": "see whether its chat template fits (teacher.chat_template), or take a more capable teacher, or one "
                "that is held to the labels (teacher.structured)",
}


def unusable_reason(prompt: Prompt, response: Response) -> str:
    """Return why nothing can be learned from a response: empty, truncated, off its list of labels, …; "" if it can."""
    if response.failure:
        return response.failure
    said = reasoning.split(response.output)
    if said.cut_off:
        return reasoning.TRUNCATED
    if not said.answer.strip():
        return EMPTY
    cut = response.finish_reason == "length"
    if prompt.family == "icldist" and prompt.labels:
        readable = parse_answer(said.answer, prompt.labels, prompt.multi_label) is not None
        return "" if readable else TRUNCATED if cut else OFF_LIST
    if prompt.tuple_schema:
        problem = read_tuple_answer(said.answer, schema_of(prompt.tuple_schema), prompt.text).problem
        if problem != UNREADABLE_TUPLES or not cut:
            return "" if problem == NOT_IN_TEXT else problem
    return TRUNCATED if cut else ""


def count_unusable(prompts: Mapping[str, Prompt], responses: Iterable[Response]) -> dict[str, int]:
    """Return how many responses nothing can be learned from, by reason."""
    found = Counter(unusable_reason(prompts[item.prompt_id], item) for item in responses)
    return dict(sorted((reason, count) for reason, count in found.items() if reason))


def excerpt(prompt: Prompt, response: Response) -> str:
    """Return an excerpt of a response, with the kind of its prompt."""
    shown = repr(response.output[:_EXCERPT]) if response.output else f"nothing ({response.finish_reason})"
    return f"{prompt.kind}: {shown}"


def too_many(bad: Mapping[str, int], rows: int, most: float) -> bool:
    """Say whether a larger share than ``most`` of the rows is bad, where there are enough rows to say."""
    return rows >= ENOUGH and sum(bad.values()) > most * rows


def summary(stage: str, bad: Mapping[str, int], rows: int) -> str:
    """Say in one sentence what was seen."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in Counter(dict(bad)).most_common())
    return f"Of {rows:,} answers of stage {stage}, nothing can be learned from {sum(bad.values()):,} ({reasons})."


def unusable_error(stage: str, bad: Mapping[str, int], rows: int, most: float, examples: Sequence[str],
                   run: Path) -> RunError:
    """Return the error that ends a stage of which too much is bad: what was seen, some of it, and what to do."""
    worst = max(bad, key=lambda reason: bad[reason])
    shown = f" For example {'; '.join(examples[:_EXAMPLES])}." if examples else ""
    advice = f" Of '{worst}': {_ADVICE[worst]}." if worst in _ADVICE else ""
    return RunError(
        f"{summary(stage, bad, rows)} At most {most:.0%} may be so (teacher.max_unusable), and the run stops here "
        f"rather than ask for more of it.{shown}{advice} What was answered is kept ('distill show {run} --rejected' "
        f"prints it once a shard is finished). To go on as it is: distill resume {run} --set teacher.max_unusable=1.")
