"""The teacher on texts whose labels are known: the pool of demonstrations, each asked without itself (Table 24).

Accuracy of sentiment classification and F1 of emotion detection, as in the paper (Appendix D.1). The paper says neither
which texts it asked nor how F1 was averaged: here it is micro-F1 over (text, label) pairs, with macro-F1 beside it. Of
tasks of tuples, which are a user's own, it is micro-F1 over whole tuples.
"""

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np

from distill.config.prompt_schema import BASIC
from distill.config.schema import IclDist
from distill.engines.base import Output
from distill.intervals import draws, percentile_interval, share_interval
from distill.parsing import reasoning
from distill.parsing.labels import parse_answer
from distill.parsing.tuple_answer import read_tuple_answer, schema_of, scored_tuples
from distill.parsing.tuple_scores import f1_of, tuple_statistics
from distill.prompting.demonstrations import Demonstration, places_of
from distill.prompting.few_shot import LabelPrompt, TuplePrompt
from distill.prompting.labels import label_set
from distill.prompting.tuples import tuples_text
from distill.run.hashing import content_id, derived_rng, derived_seed, hash_order
from distill.run.records import Prompt
from distill.teacher_eval.records import GoldAnswer, GoldQuestion
from distill.teacher_eval.rubric import UNREADABLE


def gold_questions(pool: Sequence[Demonstration], config: IclDist, examples: int, seed: int) -> list[GoldQuestion]:
    """Return, for each task of ICLDist, up to ``examples`` texts of the pool as BASIC prompts (Tables 11 and 12).

    Texts are chosen by hash. Each prompt has as many demonstrations as ``config`` allows, drawn by hash from the other
    texts of the pool: the text that is asked about never stands among them.
    """
    questions: list[GoldQuestion] = []
    prompts = config.prompts()
    for task, entry in prompts.tasks.items():
        items = [pool[place] for place in places_of(pool, task)]
        if not (entry.multi_label or entry.tuple_schema):  # a text may have none of the labels that could answer
            labels = label_set(prompts, entry.formats[BASIC].label_sets[0])
            items = [item for item in items if labels.rewrite(item.answers[labels.field])]
        keys = {content_id(item.text): item for item in items}
        chosen = sorted(keys, key=lambda key: (hash_order(seed, key, f"gold {task}"), key))[:examples]
        ask = _question if entry.tuple_schema is None else _tuple_question
        questions += [ask(task, key, keys[key], [item for other, item in keys.items() if other != key], config, seed)
                      for key in chosen]
    return questions


def _question(
    task_name: str, key: str, item: Demonstration, others: Sequence[Demonstration], config: IclDist, seed: int
) -> GoldQuestion:
    prompts = config.prompts()
    task = prompts.tasks[task_name]
    labels = label_set(prompts, task.formats[BASIC].label_sets[0])
    shown = _draw(derived_rng(seed, key, f"gold {task_name} demonstrations"), others, config)
    text = LabelPrompt(prompts, task_name, BASIC, labels.labels).prompt(
        ((one.text, labels.shown(one.answers[labels.field], task.multi_label)) for one in shown), item.text)
    prompt = Prompt(content_id("gold", task_name, text), key, "icldist", f"{task_name}/{BASIC}", text,
                    list(labels.labels), task.multi_label, len(shown), derived_seed(seed, key, f"gold {task_name}"))
    return GoldQuestion(item.text, prompt, labels.shown(item.answers[labels.field], task.multi_label))


def _tuple_question(
    task_name: str, key: str, item: Demonstration, others: Sequence[Demonstration], config: IclDist, seed: int
) -> GoldQuestion:
    prompts = config.prompts()
    schema = prompts.tasks[task_name].tuple_schema
    assert schema is not None
    shown = _draw(derived_rng(seed, key, f"gold {task_name} demonstrations"), others, config)
    text = TuplePrompt(prompts, task_name, BASIC).prompt(((one.text, one.tuples) for one in shown), item.text)
    prompt = Prompt(content_id("gold", task_name, text), key, "icldist", f"{task_name}/{BASIC}", text,
                    n_demonstrations=len(shown), seed=derived_seed(seed, key, f"gold {task_name}"),
                    tuple_schema=schema.model_dump_json(), text=item.text)
    gold = read_tuple_answer(tuples_text(item.tuples), schema, item.text)
    return GoldQuestion(item.text, prompt, [*map(_as_text, (*gold.tuples, *gold.others))])


def _draw(rng: Random, others: Sequence[Demonstration], config: IclDist) -> list[Demonstration]:
    count = rng.randint(config.min_demonstrations, config.max_demonstrations)
    return rng.sample(others, min(count, len(others)))


def read_answers(questions: Sequence[GoldQuestion], outputs: Sequence[Output]) -> list[GoldAnswer]:
    """Return what each answer says, read as the answers that are trained on (:mod:`distill.parsing`).

    An answer that cannot be read, or is missing, names no label or tuple, and counts as wrong. An empty list can be
    read.
    """
    answers = []
    for question, output in zip(questions, outputs, strict=True):
        prompt = question.prompt
        parsed = _read(output, prompt)
        problem = "" if parsed is not None else output.error or _why_not(output)
        answers.append(GoldAnswer(prompt.id, question.task, question.text, prompt.prompt, question.gold, output.text,
                                  parsed or [], parsed is not None and set(parsed) == set(question.gold), problem))
    return answers


def _read(output: Output, prompt: Prompt) -> list[str] | None:
    if prompt.tuple_schema:
        schema = schema_of(prompt.tuple_schema)
        tuples = scored_tuples(read_tuple_answer(output.text, schema, prompt.text), schema)
        return None if tuples is None else [*map(_as_text, tuples)]
    read = parse_answer(output.text, prompt.labels, prompt.multi_label)
    return None if read is None else _named(read, prompt)


def _as_text(one: Sequence[str]) -> str:
    """Return a tuple as a text of its own, which a record can hold."""
    return json.dumps(list(one), ensure_ascii=False)


def _why_not(output: Output) -> str:
    return reasoning.TRUNCATED if reasoning.split(output.text).cut_off else UNREADABLE


def _named(read: str, prompt: Prompt) -> list[str]:
    return [label for label in prompt.labels if f"'{label}'" in read] if prompt.multi_label else [read]


def score_gold(
    questions: Sequence[GoldQuestion], answers: Sequence[GoldAnswer], seed: int
) -> dict[str, dict[str, Any]]:
    """Return each task's score as a fraction with its 95% interval, how many were asked, and how many had no answer.

    ``metric`` is ``accuracy`` (one label; Wilson's interval), ``micro_f1`` (several; bootstrap over texts, with
    ``macro_f1`` and its interval beside it, the mean over the labels of the prompt) or ``tuple_f1`` (tuples; micro-F1
    over whole tuples, bootstrap over texts).
    """
    scores: dict[str, dict[str, Any]] = {}
    for task in dict.fromkeys(question.task for question in questions):
        pairs = [(question, answer) for question, answer in zip(questions, answers, strict=True)
                 if question.task == task]
        problems = [answer.problem for _, answer in pairs]
        scores[task] = {
            **_measured(pairs, seed), "n": len(pairs),
            "right": sum(answer.right for _, answer in pairs), "unreadable": problems.count(UNREADABLE),
            "failed": len(problems) - problems.count("") - problems.count(UNREADABLE)}
    return scores


def _measured(pairs: Sequence[tuple[GoldQuestion, GoldAnswer]], seed: int) -> dict[str, Any]:
    prompt = pairs[0][0].prompt
    if prompt.tuple_schema:
        return _tuple_f1(pairs, seed)
    return _f1(pairs, seed) if prompt.multi_label else _accuracy(pairs)


def _tuple_f1(pairs: Sequence[tuple[GoldQuestion, GoldAnswer]], seed: int) -> dict[str, Any]:
    statistics = tuple_statistics(*([[(item,) for item in items] for items in side] for side in (
        [question.gold for question, _ in pairs], [answer.parsed for _, answer in pairs])))
    sums = draws(len(pairs), seed, "gold") @ statistics
    return {"metric": "tuple_f1", "value": float(f1_of(statistics.sum(0))),
            "interval_95": percentile_interval(f1_of(sums))}


def _accuracy(pairs: Sequence[tuple[GoldQuestion, GoldAnswer]]) -> dict[str, Any]:
    right = sum(answer.right for _, answer in pairs)
    return {"metric": "accuracy", "value": right / len(pairs), "interval_95": share_interval(right, len(pairs))}


def _f1(pairs: Sequence[tuple[GoldQuestion, GoldAnswer]], seed: int) -> dict[str, Any]:
    """Return micro- and macro-F1. Each text's statistics: label by label, 1 where it is in gold, in answer, in both."""
    labels = pairs[0][0].prompt.labels
    statistics = np.array([[[label in question.gold, label in answer.parsed,
                             label in question.gold and label in answer.parsed] for label in labels]
                           for question, answer in pairs], dtype=float)
    sums = np.tensordot(draws(len(pairs), seed, "gold"), statistics, axes=1)
    whole = statistics.sum(0)
    return {
        "metric": "micro_f1", "value": float(_micro(whole)), "interval_95": percentile_interval(_micro(sums)),
        "macro_f1": float(_macro(whole)), "macro_interval_95": percentile_interval(_macro(sums))}


def _micro(sums: np.ndarray) -> np.ndarray:
    return _ratio(sums.sum(-2))


def _macro(sums: np.ndarray) -> np.ndarray:
    mean: np.ndarray = _ratio(sums).mean(-1)
    return mean


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Return F1 of (..., [gold, answered, both]); 0 where a label is neither in gold nor in an answer."""
    below = sums[..., 0] + sums[..., 1]
    ratio: np.ndarray = np.divide(2 * sums[..., 2], below, out=np.zeros_like(below), where=below > 0)
    return ratio
