"""What a reader would rather look at than count: answers of several models to the same text."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.config.schema import Evaluate
from distill.heldout.stage import read_answers
from distill.records import Prompt, Response, SftRow, read_records
from distill.storage import read_json
from sentibench.data import load_split
from sentibench.registry import Task, select_tasks
from sentibench.runner import result_name

_EXAMPLES_A_KIND = 1
_CONTRASTS = 4


def prompt_examples(run: Path) -> Iterator[dict[str, str]]:
    """Yield one prompt with the teacher's answer for every kind of prompt, the shortest that is trained on."""
    for stage in ("knowdist", "icldist"):
        trained = {row.id for row in read_records(run / "sft" / f"{stage}.parquet", SftRow)}
        answers = {response.prompt_id: response for path in sorted((run / stage / "responses").glob("*.parquet"))
                   for response in read_records(path, Response)}
        shown: dict[str, int] = {}
        prompts = [prompt for prompt in read_records(run / "prompts" / f"{stage}.parquet", Prompt)
                   if prompt.id in trained]
        for prompt in sorted(prompts, key=lambda item: (item.family, item.kind, len(item.prompt), item.id)):
            if shown.get(prompt.kind, 0) < _EXAMPLES_A_KIND:
                shown[prompt.kind] = shown.get(prompt.kind, 0) + 1
                yield {"family": prompt.family, "kind": prompt.kind, "prompt": prompt.prompt,
                       "answer": answers[prompt.id].output}


def case_study(run: Path) -> list[dict[str, Any]]:
    """Return the held-out KnowDist prompts with the teacher's answer and the student's on its way (Figures 4 and 5)."""
    cases: dict[str, dict[str, Any]] = {}
    for role, found in read_answers(run).items():
        for answer in found["answers"]:
            if answer["family"] == "knowdist":
                case = cases.setdefault(answer["id"], {
                    "kind": answer["kind"], "prompt": answer["prompt"], "teacher": answer["teacher"], "answers": {}})
                case["answers"][role] = answer["answer"]
    return list(cases.values())


def contrasts(run: Path, evaluate: Evaluate) -> dict[str, Any]:
    """Return benchmark examples that one of base and distilled student got right and the other did not (first seed).

    ``n_won`` and ``n_lost`` count them all; ``examples`` are at most four of each, from as many tasks as there are,
    short texts first: what changed, not what pleases.
    """
    folder, won, lost = run / "sentibench", [], []
    if not {"base", "distilled"} <= {path.name for path in folder.iterdir() if path.is_dir()}:
        return {"n_won": 0, "n_lost": 0, "examples": []}
    for task in select_tasks(evaluate.tasks):
        for entry in _differing(folder, task, evaluate):
            (won if entry["correct"]["distilled"] else lost).append(entry)
    return {"n_won": len(won), "n_lost": len(lost), "examples": [*_spread(won), *_spread(lost)]}


def _differing(folder: Path, task: Task, evaluate: Evaluate) -> Iterator[dict[str, Any]]:
    name = result_name(task.name, evaluate.seeds[0])
    rows = {role: {row["index"]: row for row in read_json(folder / role / name)["predictions"]}
            for role in ("base", "distilled", "teacher") if (folder / role / name).is_file()}
    items = load_split(task, evaluate.data_dir, "test")
    for index, base in rows["base"].items():
        other = rows["distilled"].get(index)
        if other is not None and other["correct"] != base["correct"]:
            yield {"task": task.name, "index": index, "text": items[index].sentence, "target": items[index].target,
                   "gold": _shown(base["gold"]),
                   "predictions": {role: _shown(found[index].get("raw", found[index]["prediction"]))
                                   for role, found in rows.items() if index in found},
                   "correct": {role: found[index]["correct"] for role, found in rows.items() if index in found}}


def _spread(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return some of the entries: the shortest text of every task first, then the second of every task."""
    by_task: dict[str, list[dict[str, Any]]] = {}
    for entry in sorted(entries, key=lambda item: (len(item["text"]), item["index"])):
        by_task.setdefault(entry["task"], []).append(entry)
    ranked = [(rank, position, entry) for position, group in enumerate(by_task.values())
              for rank, entry in enumerate(group)]
    return [entry for _, _, entry in sorted(ranked, key=lambda item: item[:2])[:_CONTRASTS]]


def _shown(value: Any) -> str:
    """Return a label as it is, and tuples as the models write them."""
    if isinstance(value, str):
        return value
    if value is None:
        return "(nothing that can be read)"
    return "[" + ", ".join("(" + ", ".join(map(repr, one)) + ")" for one in value) + "]"
