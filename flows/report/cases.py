"""What a reader would rather look at than count: answers of several models to the same text."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from distill.dataset.composition import other_prompts
from distill.errors import RunError
from distill.generation.manifests import read_responses
from distill.parsing import reasoning
from distill.run.records import TRAIN, Prompt, TrainingRow, read_records
from distill.run.storage import read_object
from distill.validation.stage import read_answers

_CONTRASTS = 4
PromptType = TypeVar("PromptType", bound=Prompt)


def prompt_examples(run: Path) -> Iterator[dict[str, str]]:
    """Yield one prompt with the teacher's answer for every kind of prompt, the shortest that is trained on.

    Then one of each kind of other runs (``dataset.other_runs``), whose name is in ``kind``.
    """
    others = list(other_prompts(run))
    for stage in ("knowdist", "icldist"):
        rows = read_records(path, TrainingRow) if (path := run / "dataset" / f"{stage}.parquet").exists() else ()
        trained = {row.id: row.completion for row in rows if row.split == TRAIN}
        if (asked := run / "prompts" / f"{stage}.parquet").exists():  # rows that were made elsewhere have none
            answers = {response.prompt_id: response for response in read_responses(run / stage / "responses")}
            for prompt in _one_of_each_kind(one for one in read_records(asked, Prompt) if one.id in trained):
                if prompt.id not in answers:
                    raise RunError(f"The prompt {prompt.id} is trained on, but has no answer in {run / stage}. Run "
                                   "'distill generate' with the run's config again, and then 'distill train'.")
                yield {"family": prompt.family, "kind": prompt.kind, "prompt": prompt.prompt,
                       "answer": reasoning.split(answers[prompt.id].output).answer.strip()}
        for other in _one_of_each_kind(one for one in others if one.id in trained):
            yield {"family": other.family, "kind": f"{other.kind} (run {other.run})", "prompt": other.prompt,
                   "answer": trained[other.id]}


def _one_of_each_kind(prompts: Iterable[PromptType]) -> Iterator[PromptType]:
    """Yield the shortest prompt of each kind."""
    shown: set[str] = set()
    for prompt in sorted(prompts, key=lambda item: (item.family, item.kind, len(item.prompt), item.id)):
        if prompt.kind not in shown:
            shown.add(prompt.kind)
            yield prompt


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


def contrasts(folder: Path) -> dict[str, Any] | None:
    """Return benchmark examples that one of base and distilled student got right and the other did not.

    ``folder`` is a run's ``sentibench``; of several seeds the first is looked at. ``n_won`` and ``n_lost`` count
    them all; ``examples`` are at most four of each, from as many tasks as there are, short texts first: what
    changed, not what pleases. None where base and distilled student were not both evaluated on some task.
    """
    won: list[dict[str, Any]] = []
    lost: list[dict[str, Any]] = []
    both = sorted({path.name for path in (folder / "base").glob("*.seed*.json")}
                  & {path.name for path in (folder / "distilled").glob("*.seed*.json")})
    first = {name.partition(".")[0]: name for name in reversed(both)}
    for _, name in sorted(first.items()):
        for entry in _differing(folder, name):
            (won if entry["correct"]["distilled"] else lost).append(entry)
    return {"n_won": len(won), "n_lost": len(lost), "examples": [*_spread(won), *_spread(lost)]} if both else None


def _differing(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    results = {role: read_object(folder / role / name, predictions=list, task=str, seed=int)
               for role in ("base", "distilled", "teacher") if (folder / role / name).is_file()}
    rows = {role: {row["index"]: row for row in result["predictions"]} for role, result in results.items()}
    for index, base in rows["base"].items():
        other = rows["distilled"].get(index)
        if other is not None and other["correct"] != base["correct"]:
            yield {"task": results["base"]["task"], "seed": results["base"]["seed"], "index": index,
                   "text": base["text"], "target": base["target"], "gold": _shown(base["gold"]),
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
