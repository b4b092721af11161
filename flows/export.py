"""A student in the form of another runtime: which model is meant, what goes with it, and whether it says the same."""

import importlib.util
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill import __version__
from distill.config.schema import Evaluate, TeacherEngine, TransformersEngine
from distill.config.sections.engines import PluginEngine
from distill.export.folder import exported_folder, read_record, refuse_taken, write_record
from distill.export.merged import is_adapter, write_merged
from distill.models import model_fingerprint
from distill.prediction.temperature import carry_calibration
from distill.prompting.files import FOLDER
from distill.prompting.kept import FILE, prompt_files
from distill.resources import PREFIX
from distill.run.storage import read_text, write_json, write_text
from flows.export_check import Checked, check_export, compared_tasks
from flows.export_encoder import export_encoder
from flows.report.card import CARD, card_of_form, plain_card
from flows.run import stored_config
from flows.students import DEMONSTRATIONS, default_task, encoder_folder, model_of, prompt_format_of, prompts_of

_LARGEST_CARD = 1 << 22  # bytes
_LLAMA_CPP = importlib.util.find_spec("llama_cpp") is not None


@dataclass(frozen=True)
class Form:
    """A form to export to: ``write`` makes it of a model's folder, ``engine`` asks it in ``runtime``."""

    name: str
    runtime: str
    write: Callable[[Path, Path], None]
    engine: TeacherEngine


@dataclass(frozen=True)
class Exported:
    """What was written, and what its check says: SentiBench's (``checked``), or in words where that is no way."""

    folder: Path
    checked: Checked | None
    said: str = "It was not compared with the model that it was made from."


def _write_onnx(source: Path, out: Path) -> None:
    from distill.export.onnx_model import write_onnx  # torch

    write_onnx(source, out)


def _write_gguf(source: Path, out: Path) -> None:
    from distill.export.gguf_model import write_gguf  # torch

    write_gguf(source, out)


FORMS: dict[str, Form] = {
    "merged": Form("merged", "transformers", write_merged, TransformersEngine(dtype="float32")),
    "onnx": Form("onnx", "ONNX Runtime", _write_onnx,
                 PluginEngine(kind="plugin", use="distill.export.onnx_model:OnnxEngine", dtype="float32")),
    "gguf": Form("gguf", "llama.cpp" if _LLAMA_CPP else "transformers, as llama.cpp is not installed", _write_gguf,
                 PluginEngine(kind="plugin", dtype="float32", use="distill.export.gguf_model:" + (
                     "LlamaCppEngine" if _LLAMA_CPP else "GgufEngine"))),
}


def export_model(name: str, form: Form, out: Path | None, overwrite: bool, tasks: str | None, limit: int, log: Path,
                 runs_dir: str = "runs") -> Exported:
    """Write the model called ``name`` in another form, and compare what SentiBench says of both.

    ``tasks``: those to compare on, and ``limit`` test examples of each (0: none); default: the label tasks that its run
    was to be evaluated on. The default of ``out`` is named after model and form, in this folder.

    Raises:
        InputError: there is no such model, ``out`` is taken, or the tasks cannot be used.
        RunError: one of the two cannot be asked.
    """
    if (encoder := encoder_folder(name, runs_dir)) is not None:
        folder, said = export_encoder(encoder, form.name, out, overwrite, log)
        return Exported(folder, None, said)
    model, run = _model(name, runs_dir)
    short = (run or model).resolve().name
    out = out or Path(f"{short}-{form.name}")
    refuse_taken(out, overwrite)
    settings = stored_config(run).evaluate if run else Evaluate()
    compared = compared_tasks(settings, tasks) if limit else []
    with tempfile.TemporaryDirectory(prefix="sentidistill-") as place:
        with exported_folder(out, overwrite) as temporary:
            if is_adapter(model) and form.name != "merged":
                write_merged(model, Path(place))
                model = Path(place)
            form.write(model, temporary)
            _describe(model, run, short, form.name, temporary)
        if is_adapter(model):
            return Exported(out, None, "Its logits are those of the model with the adapters beside its weights.")
        if not compared:
            return Exported(out, None)
        return Exported(out, check_export(model, out, model_fingerprint(model), form.engine, form.runtime, settings,
                                          compared, limit, log))


def _model(name: str, runs_dir: str) -> tuple[Path, Path | None]:
    if name.strip() and is_adapter(Path(name)):
        return Path(name), None
    return model_of(name, runs_dir)


def _describe(model: Path, run: Path | None, name: str, form: str, out: Path) -> None:
    """Write what ``predict`` needs to ask the model as it was trained, and a card where the model brings none."""
    prompts = prompts_of(run, model)
    values: dict[str, Any] = {"form": form, "of": name, "task": default_task(prompts, run, model),
                              "prompt_format": prompt_format_of(out if is_adapter(model) else model)}
    if not is_adapter(model):
        values["fingerprint"] = model_fingerprint(model)
    if run is not None:
        (out / FOLDER).mkdir()
        config = stored_config(run).prompts
        kept = run / FOLDER / FILE
        if kept.is_file():
            shutil.copyfile(kept, out / FOLDER / FILE)
        else:
            write_json(out / FOLDER / FILE, prompt_files(config))
        pool = config.icldist.demonstrations
        if not pool.startswith(PREFIX) and Path(pool).is_file():
            shutil.copyfile(pool, out / DEMONSTRATIONS)
    elif read_record(model) and (model / FOLDER).is_dir():
        shutil.copytree(model / FOLDER, out / FOLDER)
    if run or read_record(model):
        carry_calibration(run or model, out)
    card = out / CARD
    text = read_text(card, _LARGEST_CARD) if card.is_file() else plain_card(name, model)
    write_text(card, text if form == "merged" else card_of_form(text, form))
    write_record(out, **values, sentidistill=__version__)
