"""SentiBench inside lm-eval (EleutherAI's lm-evaluation-harness): the export, and the scoring it calls back.

``lm-eval run --include_path DIR --tasks sentibench`` runs what :func:`export` wrote. Prompts are ours, demonstrations
and all; answers are read and scored by the same functions as in ``sentibench run``. Two things differ: lm-eval scores
a label by its whole likelihood, ``sentibench run`` by its first token, as released; where every label is one token, and
the model ships no repetition penalty, they are the same. Under ``released`` tuples differ, too, where a tokenizer has
``clean_up_tokenization_spaces``: ``sentibench run`` takes blanks before punctuation away, as the authors' transformers
did, and lm-eval does not say which tokenizer it used.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sentibench.metrics import VALUES, macro_f1, micro_f1, predicted_graphs, sentiment_graph_f1
from sentibench.parsing import first_line
from sentibench.protocols import Example, Protocol, build_examples, load_task_data
from sentibench.registry import select_tasks
from sentibench.released import answer_of
from sentibench.scoring import read_answer, reading_of
from sentibench.task import Task

_UTILS = '''"""Called by lm-eval for the tasks in this folder; sentidistill must be installed beside it."""

from sentibench.lm_eval import macro_f1_of, micro_f1_of, process_label, process_tuples, sentiment_graph_f1_of

__all__ = ["macro_f1_of", "micro_f1_of", "process_label", "process_tuples", "sentiment_graph_f1_of"]
'''


class _Function(str):
    """The name of a function, written with lm-eval's tag."""


def export(
    tasks: Sequence[str] | str, data_dir: Path | str, protocol: Protocol, seed: int, limit: int | None, out: Path
) -> list[str]:
    """Write one lm-eval task for each task into ``out``, and the group ``sentibench``; return their names.

    Raises:
        InputError: a task is unknown, or its data cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    names = []
    for task in select_tasks(tasks):
        examples = build_examples(task, load_task_data(task, data_dir, protocol), protocol, seed, limit)
        data = (out / f"{task.name}.jsonl").resolve()
        # ASCII escapes: a prompt can hold a line separator.
        data.write_text("".join(json.dumps(_document(task, example, protocol)) + "\n" for example in examples))
        names.append(f"sentibench_{task.name}")
        (out / f"{names[-1]}.yaml").write_text(_dump(_task(task, names[-1], data)))
    (out / "sentibench.yaml").write_text(_dump({"group": "sentibench", "task": names}))
    (out / "utils.py").write_text(_UTILS)
    return names


def _document(task: Task, example: Example, protocol: Protocol) -> dict[str, Any]:
    item = example.item
    return {
        "index": example.index, "task": task.ref, "reading": protocol, "prompt": example.prompt,
        "sentence": item.sentence,
        "labels": list(task.labels), "label": item.gold if isinstance(item.gold, str) else "",
        # As text: columns of nested lists of different kinds are not for Arrow.
        "gold": json.dumps(item.gold), "graphs": json.dumps([[*(sorted(span) for span in one[:3]), one[3]]
                                                             for one in item.graphs])}


def _task(task: Task, name: str, data: Path) -> dict[str, Any]:
    common = {
        "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test", "num_fewshot": 0, "doc_to_text": "{{prompt}}",
        "metric_list": [{"metric": task.metric, "aggregation": _Function(f"utils.{task.metric}_of"),
                         "higher_is_better": True}],
        "metadata": {"version": 1.0}}
    if task.answer == "label":
        return {**common, "output_type": "multiple_choice", "doc_to_choice": "{{labels}}",
                "doc_to_target": "{{labels.index(label)}}", "target_delimiter": " ",
                "process_results": _Function("utils.process_label")}
    return {**common, "output_type": "generate_until", "doc_to_target": "{{gold}}",
            "generation_kwargs": {"until": [], "max_gen_toks": task.max_tokens, "do_sample": False},
            "process_results": _Function("utils.process_tuples")}


def _dump(value: Mapping[str, Any]) -> str:
    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(_Function, lambda dumper, data: dumper.represent_scalar("!function", str(data)))
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True))


def process_label(document: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, list[float]]:
    """Return the statistics of one example from the likelihood of each label."""
    labels = tuple(document["labels"])
    best = max(range(len(labels)), key=lambda number: results[number][0])
    return {"macro_f1": macro_f1([document["label"]], [labels[best]], labels).statistics[0].tolist()}


def process_tuples(document: Mapping[str, Any], results: Sequence[str]) -> dict[str, list[float]]:
    """Return the statistics of one example from what was generated."""
    (task,) = select_tasks([document["task"]])
    released = document.get("reading") == "released" and reading_of(task, "released") == "released"
    answer = (read_answer(task, answer_of(results[0]), document["sentence"], "released") if released else
              read_answer(task, first_line(results[0]), document["sentence"])).value
    predicted = answer if isinstance(answer, tuple) else ()
    if task.metric == "sentiment_graph_f1":
        graphs = [(frozenset(one[0]), frozenset(one[1]), frozenset(one[2]), one[3])
                  for one in json.loads(document["graphs"])]
        scored = sentiment_graph_f1([graphs], [predicted_graphs(document["sentence"], predicted)])
    else:
        scored = micro_f1([[tuple(one) for one in json.loads(document["gold"])]], [predicted])
    return {task.metric: scored.statistics[0].tolist()}


def macro_f1_of(rows: Sequence[Sequence[float]]) -> float:
    """Return macro-F1 from the statistics of all examples."""
    return _value("macro_f1", rows)


def micro_f1_of(rows: Sequence[Sequence[float]]) -> float:
    """Return micro-F1 from the statistics of all examples."""
    return _value("micro_f1", rows)


def sentiment_graph_f1_of(rows: Sequence[Sequence[float]]) -> float:
    """Return sentiment-graph F1 from the statistics of all examples."""
    return _value("sentiment_graph_f1", rows)


def _value(metric: str, rows: Sequence[Sequence[float]]) -> float:
    return float(VALUES[metric](np.sum(np.array(rows, dtype=float), axis=0)))
