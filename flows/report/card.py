"""The model card: what stands in README.md beside the weights of a trained student."""

from pathlib import Path
from typing import Any

import yaml

from distill.config.schema import Config
from distill.dataset.composition import composition, other_teachers
from distill.errors import InputError
from distill.models import ON_HUB
from distill.models.licences import UNKNOWN, Licence, licence_of
from distill.run.storage import write_text
from distill.training.lineage import LINEAGE, lineage_of
from distill.training.stages import sources_of
from flows.report.markdown import markdown_table
from flows.report.view import DASH

CARD = "README.md"
_SETTINGS = (("learning_rate", "learning rate"), ("lr_scheduler_type", "schedule"), ("warmup_ratio", "warm-up ratio"),
             ("weight_decay", "weight decay"), ("adam_beta1", "Adam β1"), ("adam_beta2", "Adam β2"),
             ("num_train_epochs", "epochs"), ("global_batch_size", "global batch size"))


def write_card(run: Path, config: Config, model: Path, base: Path, bench: dict[str, Any] | None = None) -> Path:
    """Write a model's card and return its path. ``bench`` is that key of results.json, once there is an evaluation."""
    before = lineage_of(base)
    stages = lineage_of(model)[len(before) or 1:]
    if not stages:
        raise InputError(f"{model} has no record of how it was trained ({LINEAGE}), so no card can be written. Put "
                         f"that file back from a copy, or delete {model} and run 'distill train' again.")
    licences = _licences(config, base, other_teachers(run))
    front = {"license": licences["student"].id, "library_name": "transformers", "pipeline_tag": "text-generation",
             "tags": ["sentiment-analysis", "knowledge-distillation", "sentidistill"]}
    name = ON_HUB.get(config.student.model.name, config.student.model.name)
    if "/" in name and not Path(name).is_dir():
        front["base_model"] = name
    if bench:
        front |= _model_index(run.name, config, bench)
    lines = ["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {run.name}", "",
             *_what(config, stages, before, other_teachers(run)), "", *_use(config), "", *_data(run, stages), "",
             *_hyperparameters(stages), "", *_results(bench), "", *_limits(config, bench), "",
             *_licence_lines(config, licences)]
    text, path = "\n".join(lines) + "\n", model / CARD
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def plain_card(name: str, model: Path, base: str = "", task: str = "text-generation") -> str:
    """Return the card of a model of whose training nothing is recorded: its name, what it does, and its licence.

    ``base`` names what it was made from, where that is known.
    """
    licence = licence_of(base or name, model)
    front = {"license": licence.id, "library_name": "transformers", "pipeline_tag": task,
             **({"base_model": base} if "/" in base and not Path(base).is_dir() else {})}
    warning = f" **Mind: {licence.warning}.**" if licence.warning else ""
    return "\n".join(["---", yaml.safe_dump(front, sort_keys=False).strip(), "---", "", f"# {name}", "",
                      "How this model was trained is not recorded. It was exported with sentidistill.", "",
                      "## Licence", "", f"{licence.name}.{warning}", ""])


def card_of_form(card: str, form: str) -> str:
    """Return the card of a model in another form (onnx, gguf), which transformers does not load as such."""
    parts = card.split("---", 2)
    try:
        front = yaml.safe_load(parts[1]) if card.startswith("---") and len(parts) == 3 else None
    except yaml.YAMLError:
        front = None
    if not isinstance(front, dict):
        return card
    front["library_name"], front["tags"] = form, [*(front.get("tags") or []), form]
    said = f"\n\nThis is the model as {form.upper()}, exported with sentidistill.\n"
    return f"---\n{yaml.safe_dump(front, sort_keys=False).strip()}\n---{said}{parts[2]}"


def _what(config: Config, stages: list[dict[str, Any]], before: list[dict[str, Any]], others: list[str]) -> list[str]:
    student = config.student.model.name
    if config.student.kind == "depth_pruned":
        student += f" cut to {config.student.layers} layers"
    by = "fine-tuned on rows made elsewhere" if config.rows or not config.teacher else (
        f"distilled from {' and '.join(dict.fromkeys([config.teacher.model.name, *others]))}")
    trained = [entry["stage"] for entry in before if entry["stage"] != "start"]
    earlier = (f" The base was trained with sentidistill itself ({', '.join(trained)}); its own card names its data."
               if trained else "")
    names = " and then ".join({"knowdist": "KnowDist", "icldist": "ICLDist", "unified": "KnowDist and ICLDist mixed"}[
        entry["stage"]] for entry in stages)
    return [f"A small model for sentiment analysis: {student}, {by} with sentidistill, by {names} (Zhang et al., "
            "*Targeted Distillation for Sentiment Analysis*, EMNLP 2025). "
            f"Fingerprint of the weights: `{stages[-1]['fingerprint']}`, of the base's: `{stages[0]['parent']}`."
            + earlier]


def _use(config: Config) -> list[str]:
    form = {"raw": "Prompts are continued as plain text, without a chat template; an answer ends with end-of-text.",
            "chat": "Prompts are user turns in the tokenizer's chat template; an answer ends with end-of-turn.",
            "mixed": "Prompts may be plain text or user turns in the tokenizer's chat template."}
    return ["## Use", "", form[config.train.prompt_format] + " The generation config holds the stop tokens.", "",
            "```python", "from transformers import pipeline", "",
            'ask = pipeline("text-generation", model="PATH", return_full_text=False)',
            'print(ask("Sentence: The soup was cold, and nobody said sorry.\\nLabel:", max_new_tokens=8))', "```"]


def _data(run: Path, stages: list[dict[str, Any]]) -> list[str]:
    rows = [{"stage": source, **row} for entry in stages for source in sources_of(entry["stage"])
            for row in composition(run, source)]
    lines = ["## Training data", ""]
    if not rows:
        return [*lines, "The run folder no longer holds the training rows."]
    return [*lines, *markdown_table(["stage", "family", "kind", "texts from", "rows"], (
        [row["stage"], row["family"], row["kind"], row["source"] or DASH, f"{row['rows']:,}"] for row in rows), 4),
        "", "Rows for validation, too long, or outside the fraction of the data that was used are not counted: they "
        "were not trained on."]


def _hyperparameters(stages: list[dict[str, Any]]) -> list[str]:
    rows = [[title, *(str(entry["hyperparameters"][entry["stage"]][key]) for entry in stages)]
            for key, title in _SETTINGS]
    shared = stages[-1]["hyperparameters"]
    rows += [[title, *(str(entry["hyperparameters"].get(key)) for entry in stages)]
             for key, title in (("method", "method"), ("max_length", "longest row (tokens)"), ("dtype", "dtype"),
                                ("prompt_format", "prompt format"))]
    rows += [["objective", *(_objective(entry["hyperparameters"].get("objective")) for entry in stages)]]
    rows += [["seed", *(str(entry["seed"]) for entry in stages)]]
    lines = ["## Hyperparameters", "", *markdown_table(["", *(entry["stage"] for entry in stages)], rows, 1)]
    return [*lines, "", f"LoRA: {shared['lora']}."] if shared.get("lora") else lines


def _objective(named: dict[str, Any] | None) -> str:
    if named is None:  # of a model of an earlier version
        return "sft"
    if "use" in named:
        return f"{named['use']} {named['options'] or ''} (code {named['code']})"
    settings = ", ".join(f"{key} {value}" for key, value in named.items() if key != "kind" and value is not None)
    return f"{named['kind']} ({settings})" if settings else str(named["kind"])


def _results(bench: dict[str, Any] | None) -> list[str]:
    lines = ["## SentiBench", ""]
    if not bench:
        return [*lines, "Not evaluated yet: `distill evaluate` and `distill report` fill this in."]
    models = [name for name in ("base", "distilled", "teacher") if name in bench["models"]]
    limit = f"the first {bench['limit']} test examples a task" if bench["limit"] else "all test examples"
    rows = [[task["title"], task["metric"].replace("_", " "), *(_cell(task["scores"].get(name)) for name in models)]
            for task in bench["tasks"]]
    averages = [bench["averages"][name]["all"]["value"] for name in models]
    rows.append(["**mean**", "", *(DASH if value is None else f"**{100 * value:.1f}**" for value in averages)])
    return [*lines, "F1 in percent with 95% intervals (bootstrap over examples, mean over "
            f"{len(bench['seeds'])} seed(s)); protocol '{bench['protocol']}', {limit}.", "",
            *markdown_table(["task", "metric", *models], rows, 2)]


def _model_index(name: str, config: Config, bench: dict[str, Any]) -> dict[str, Any]:
    """Return the student's scores as the Hub reads them: F1 x 100 on each task's test split."""
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    ours = " (miniature of sentidistill)" if config.evaluate.data_dir.startswith("shipped:") else ""
    results = [EvalResult(
        task_type="text-generation", dataset_type=task["task"], dataset_name=task["title"] + ours, dataset_split="test",
        dataset_args={"examples": task["n"], "protocol": bench["protocol"]}, metric_type="f1",
        metric_name=task["metric"].replace("_", " ").replace("f1", "F1"), metric_value=round(100 * score["value"], 2))
        for task in bench["tasks"] if (score := task["scores"].get("distilled"))]
    return {"model-index": eval_results_to_model_index(name, results)} if results else {}


def _cell(score: dict[str, Any] | None) -> str:
    if score is None:
        return DASH
    low, high = score["interval_95"]
    return f"{100 * score['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _limits(config: Config, bench: dict[str, Any] | None) -> list[str]:
    limits = ["The teacher's mistakes and its prejudices are learned with the rest; a score on a benchmark says little "
              "about texts of another kind, time or language.",
              "Lists of opinions (ASQP, SSA) are answered much less well than labels are; intimacy is hard, too "
              "(Section 4.2 of the paper, and its limitations).",
              "Do not let it decide about people."]
    if config.evaluate.data_dir.startswith("shipped:"):
        limits.append("It was evaluated on the miniature benchmark that ships with sentidistill: these scores show "
                      "that the machinery works, and cannot be compared with the paper's.")
    elif bench and bench["limit"]:
        limits.append("It was evaluated on a part of each test split only.")
    return ["## Limitations", "", *(f"- {text}" for text in limits)]


def _licences(config: Config, base: Path, others: list[str]) -> dict[str, Licence]:
    """Return the licences by what they are of; those of the teachers of other runs by their names."""
    found = {"student": licence_of(config.student.model.name, base)}
    if teacher := _teacher(config):
        found["teacher"] = licence_of(teacher)
    elif config.rows and any(source.kind != "sentibench" for source in (*config.rows.knowdist, *config.rows.icldist)):
        found["teacher"] = UNKNOWN  # who gave the answers is not named
    return found | {name: licence_of(name) for name in others if name != _teacher(config)}


def _teacher(config: Config) -> str | None:
    """Return who gave the answers that were trained on; a teacher beside ``rows`` is only evaluated."""
    if config.rows:
        return config.rows.teacher
    return config.teacher.model.name if config.teacher else None


def _licence_lines(config: Config, licences: dict[str, Licence]) -> list[str]:
    names = {"student": config.student.model.name,
             "teacher": _teacher(config) or "who gave the answers is not named (rows.teacher)"}
    lines = ["## Licences", ""]
    for role, licence in licences.items():
        title = {"student": "Base of the student", "teacher": "Teacher"}.get(role, "Teacher of another run")
        warning = f" **Mind: {licence.warning}.**" if licence.warning else ""
        lines.append(f"- {title}: {names.get(role, role)}, {licence.name}.{warning}")
    lines.append("- Texts: under the terms of the sources they were collected from.")
    return [*lines, "", "This is what sentidistill knows of them, no legal advice: read them before you publish."]
