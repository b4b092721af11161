"""The student that a name means, and how it is asked: a run's, a folder's, the Hub's, or an encoder."""

import difflib
import os
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill.config.prompt_schema import IclDistPrompts
from distill.config.schema import IclDist
from distill.config.sections.encoder import RUN_FILE
from distill.config.sections.engines import TeacherEngine
from distill.config.task_file import load_task, with_tasks
from distill.encoder.settings import SETTINGS
from distill.engines import identity
from distill.errors import InputError
from distill.export.folder import read_record
from distill.models import context_length, model_fingerprint
from distill.models.resolve import resolve_model
from distill.prediction.labels import label_spec
from distill.prediction.question import question_of
from distill.prediction.student import Student
from distill.prediction.temperature import temperature_of
from distill.prompting.demonstrations import Demonstration, load_demonstrations, own_demonstrations
from distill.prompting.kept import kept_icldist
from distill.run.digests import digests
from distill.run.folder import is_marked
from distill.run.storage import read_json
from distill.training.lineage import lineage_of
from flows.evaluated_models import final_model, require_final_model
from flows.run import CONFIG, look_for_run, stored_config

DEFAULT_TASK = "sentiment"
_REASONING_TOKENS = 1024
DEMONSTRATIONS = "prompts/demonstrations.json"
"""In an exported folder: the pool of its run, where that is not the one that ships."""


def find_student(name: str, task: str | None = None, shots: int = 0, prompt_format: str | None = None,
                 engine: str = "transformers", runs_dir: str = "runs", max_tokens: int | None = None) -> Student:
    """Return the student called ``name``, asked about ``task`` with so many demonstrations.

    ``name``: a run, whose final model it is; a model's folder; a built-in or Hub name; or an encoder's folder or run,
    which has labels of its own and takes neither task nor demonstrations. ``task``: one that the student was trained
    on (default: sentiment), or a task file. ``prompt_format``: raw or chat; default: as it was trained, else chat
    where the model has a chat template. ``max_tokens``: of an answer that is written, reasoning among it (default: 64;
    tuples 256; of a student that was trained to reason, 1,024 or half its context).

    Raises:
        InputError: there is no such student or task, its run is not finished, or ``max_tokens`` is 0 or asked of a
            student that writes nothing.
    """
    if (encoder := encoder_folder(name, runs_dir)) is not None:
        if task or shots or prompt_format or max_tokens is not None:
            raise InputError(f"{name} is an encoder, which has labels of its own. Leave --task, --shots, "
                             "--prompt-format and --max-tokens out.")
        return _encoder(encoder)
    folder, run = model_of(name, runs_dir)
    form = prompt_format or prompt_format_of(folder)
    prompts, task, pool = find_task(task, run, folder)
    question = question_of(prompts, task, pool, shots, form != "raw")
    settings: TeacherEngine = TypeAdapter(TeacherEngine).validate_python({"kind": engine})
    reasons = was_taught_to_reason(folder)
    scored = not (question.multi_label or question.tuple_schema or reasons)
    if max_tokens is not None and (scored or max_tokens < 1):
        raise InputError(f"--max-tokens is {max_tokens}, but must be 1 or more." if max_tokens < 1 else
                         f"The labels of '{task}' are scored, and {name} writes nothing. Leave --max-tokens out.")
    if reasons and max_tokens is None:
        max_tokens = min(_REASONING_TOKENS, context_length(folder) // 2)
    weights = model_fingerprint(folder)
    ours = run or (folder if read_record(folder) else None)  # others have files of these names, too
    temperature = temperature_of(ours, weights, task, question) if scored and ours else None
    spec = label_spec(folder, settings, question, temperature, reasons, max_tokens)
    columns = ("tuples",) if question.tuple_schema else ("label", "probability") if scored else ("label",)
    decides: dict[str, Any] = {key: spec[key] for key in ("temperature", "written", "max_tokens") if key in spec}
    return Student(name, "distill.prediction.labels:open_labels", spec, {
        "weights": weights, "prompt": spec["question"], "engine": identity(settings), **decides}, columns)


def model_of(name: str, runs_dir: str = "runs") -> tuple[Path, Path | None]:
    """Return the folder of the language model that a name means, and the run that it is of, if any.

    Raises:
        InputError: there is no such model, or its run is not finished.
    """
    if not _is_model(name) and (run := look_for_run(name, runs_dir)) is not None:
        require_final_model(run)
        return final_model(run), run
    folder = resolve_model(name)
    if (form := read_record(folder).get("form", "merged")) != "merged":
        raise InputError(f"{folder} holds a model as {form}, for another runtime. Name the model that it was made "
                         "from, or an export of the form 'merged'.")
    around = folder.parent.parent
    if (around / CONFIG).is_file() and (is_marked(around) or lineage_of(folder)):  # a model that lies in its run
        return folder, look_for_run(str(around))
    return folder, None


def _is_model(name: str) -> bool:
    """Say whether a path is that of a model's folder, in which others keep a config.yaml of theirs."""
    return "/" in name and os.path.isfile(os.path.join(name, "config.json"))


def encoder_folder(name: str, runs_dir: str) -> Path | None:
    """Return the folder of the encoder that is meant: of a run's, the one of the first seed."""
    for folder in ([] if "/" in name else [Path(runs_dir) / name]) + [Path(name)]:
        if os.path.isfile(folder / SETTINGS):
            return folder
        if os.path.isfile(folder / RUN_FILE):
            trained = sorted(path.parent for path in folder.glob(f"models/*/{SETTINGS}"))
            if not trained:
                raise InputError(f"The run {folder} has no finished encoder yet. Go on with 'distill encoder train'.")
            return trained[0]
    return None


def _encoder(folder: Path) -> Student:
    files = sorted(path for pattern in ("*.safetensors", "*.onnx", SETTINGS, "tokenizer.json")
                   for path in folder.glob(pattern))
    return Student(str(folder), "distill.prediction.encoders:open_encoder", {"folder": str(folder.resolve())},
                   {"weights": digests(files)})


def prompt_format_of(folder: Path) -> str:
    """Return in which form a student was trained; for a model that says nothing of it, by its chat template."""
    if form := read_record(folder).get("prompt_format"):
        return str(form)
    for entry in reversed(lineage_of(folder)):
        if form := entry.get("hyperparameters", {}).get("prompt_format"):
            return str(form)
    settings: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").is_file():
        settings = read_json(folder / "tokenizer_config.json")
    return "chat" if settings.get("chat_template") or (folder / "chat_template.jinja").is_file() else "raw"


def was_taught_to_reason(folder: Path) -> bool:
    """Say whether a student was trained on reasoning before its answers, so that these must be written."""
    return any(entry.get("hyperparameters", {}).get("keep_reasoning") for entry in lineage_of(folder)[-1:])


def find_task(task: str | None, run: Path | None, folder: Path) -> tuple[IclDistPrompts, str, list[Demonstration]]:
    """Return the prompts, the name of a task among them, and the texts with labels that it may show.

    Raises:
        InputError: there is no such task.
    """
    prompts, named = prompts_of(run, folder), []
    if task and (os.path.isfile(task) or task.endswith((".yaml", ".yml"))):
        own = load_task(Path(task))
        named = [own.described.name]
        prompts, task = with_tasks(prompts, [own]), own.described.name
    task = task or default_task(prompts, run, folder)
    if task not in prompts.tasks:
        near = difflib.get_close_matches(task.casefold(), prompts.tasks, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise InputError(f"There is no task '{task}'.{hint} Give --task one of {', '.join(prompts.tasks)}, or a task "
                         "file.")
    return prompts, task, _pool(prompts, task, run, folder, named)


def prompts_of(run: Path | None, folder: Path) -> IclDistPrompts:
    """Return the ICLDist prompts of a run, or those that an exported folder brings; else those that ship."""
    if run is not None or read_record(folder):
        return kept_icldist(run or folder)
    return IclDist().prompts()


def default_task(prompts: IclDistPrompts, run: Path | None, folder: Path) -> str:
    """Return the sentiment task, or the first of those that a run was taught where that is not among them."""
    if (kept := str(read_record(folder).get("task"))) in prompts.tasks:
        return kept
    weights = {**prompts.weights, **(stored_config(run).prompts.icldist.weights if run is not None else {})}
    taught = [name for name in prompts.tasks if weights[name]]
    return DEFAULT_TASK if DEFAULT_TASK in taught or not taught else taught[0]


def _pool(prompts: IclDistPrompts, task: str, run: Path | None, folder: Path, named: list[str]) -> list[Demonstration]:
    if own := own_demonstrations(prompts, task):
        return own
    config = stored_config(run).prompts.icldist if run is not None else IclDist()
    if run is None and read_record(folder) and (folder / DEMONSTRATIONS).is_file():
        config = config.model_copy(update={"demonstrations": str(folder / DEMONSTRATIONS)})
    if not os.path.isfile(config.demonstrations) and not config.demonstrations.startswith("shipped:"):
        return []  # it was elsewhere when the run was made; without demonstrations none is needed
    return load_demonstrations(config, prompts, named)  # what a run was taught is asked as it was
