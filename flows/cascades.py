"""Cascades by name: who the teacher is that a name means, what the student was trained on, and what labels it has."""

from collections.abc import Callable
from pathlib import Path

from pydantic import TypeAdapter

from distill.cascade.teacher import Teacher
from distill.config.prompt_files import icldist_prompts
from distill.config.prompt_schema import BASIC
from distill.config.sections.engines import TeacherEngine
from distill.config.sections.models import Model
from distill.corpus.build import read_texts, texts_file
from distill.dataset.composition import taught_texts
from distill.dataset.pool import OF_POOL
from distill.encoder.settings import settings_of
from distill.errors import InputError
from distill.models.resolve import BUILT_IN
from distill.prediction.question import Question, question_of
from distill.prediction.student import Student
from distill.prompting.demonstrations import load_demonstrations, normalised
from distill.prompting.few_shot import LabelPrompt
from distill.prompting.template import around
from distill.run.hashing import content_id
from distill.training.stages import SOURCES
from flows.evaluated_models import subject_of
from flows.run import Run, look_for_run, stored_config
from flows.students import DEFAULT_TASK, encoder_folder, find_task, model_of, prompt_format_of


def labels_of(student: Student) -> list[str]:
    """Return the labels that a student gives.

    Raises:
        InputError: it gives several to a text, of which there is no probability.
    """
    if "question" not in student.spec:
        return list(settings_of(Path(student.spec["folder"]))["names"])
    if "probability" not in student.columns:
        raise InputError("The student gives no probability here (a text of this task can have several labels, or "
                         "tuples; or the student reasons before it answers), so that there is no threshold for a "
                         "cascade. Give --task one with a single label, or another student.")
    return list(student.spec["question"]["labels"])


def find_teacher(name: str, student_name: str, task: str | None = None, shots: int | None = None,
                 prompt_format: str | None = None, engine: str = "transformers", runs_dir: str = "runs") -> Teacher:
    """Return the teacher called ``name``, to be asked about the task of the student called ``student_name``.

    ``name``: a run, whose teacher it is, asked and read as it was there; a model's folder, a built-in or Hub name; or
    an endpoint (``http://host:8000/v1#model``). ``shots``: demonstrations it is shown (default: six).

    Raises:
        InputError: there is no such model or task.
    """
    run = look_for_run(name, runs_dir)
    if run is not None:
        its = Run(stored_config(run), run).teacher
        chat = prompt_format != "raw" if prompt_format else its.chat_template.icldist
        return Teacher.of(its.model, its.engine, _question(student_name, task, shots, chat, runs_dir), written=True,
                          max_tokens=its.sampling.icldist.max_tokens)
    if name.startswith(("http://", "https://")):
        endpoint = subject_of(name, Path(runs_dir)).endpoint
        assert endpoint is not None and endpoint.model is not None  # an address names its model
        question = _question(student_name, task, shots, prompt_format != "raw", runs_dir)
        return Teacher.of(Model(name=endpoint.model), endpoint, question)
    if encoder_folder(name, runs_dir):
        raise InputError(f"{name} is an encoder, which cannot be asked about a task as a teacher is. Give --teacher a "
                         "language model; or label the sample with 'distill predict', and name that column with "
                         "--teacher-column.")
    folder, _ = model_of(name, runs_dir)
    settings: TeacherEngine = TypeAdapter(TeacherEngine).validate_python({"kind": engine})
    question = _question(student_name, task, shots, (prompt_format or prompt_format_of(folder)) != "raw", runs_dir)
    local = name not in BUILT_IN and Path(name).expanduser().is_dir()
    return Teacher.of(Model(name=str(folder) if local else name), settings, question)


def _question(student: str, task: str | None, shots: int | None, chat: bool, runs_dir: str) -> Question:
    """Return how the teacher is asked: with the student's task and labels."""
    if (encoder := encoder_folder(student, runs_dir)) is not None:
        labels, prompts = settings_of(encoder)["names"], icldist_prompts()
        before, after = around(prompts.layout.question, "Text")  # its labels have no demonstrations
        head = LabelPrompt(prompts, DEFAULT_TASK, BASIC, labels).head
        return Question(head + before, after, list(labels), multi_label=False, chat=chat)
    folder, run = model_of(student, runs_dir)
    prompts, task, pool = find_task(task, run, folder)
    return question_of(prompts, task, pool, shots, chat)


def refuse_itself(student: Student, teacher: Teacher) -> None:
    """Refuse a teacher that is the student, asked the same.

    Raises:
        InputError: it is.
    """
    if student.identity["weights"] == teacher.weights and teacher.question == Question(**student.spec["question"]):
        raise InputError(f"The teacher is the student itself, asked the same question ({teacher.name}): they would "
                         "never differ, and nothing would be learned. Give --teacher another model.")


def trained_on(student_name: str, runs_dir: str = "runs") -> Callable[[str], bool]:
    """Return what says of a text whether a run's student was trained on it; of other models nothing is known."""
    if encoder_folder(student_name, runs_dir) is not None:
        return lambda text: False
    _, run = model_of(student_name, runs_dir)
    if run is None or not texts_file(run).is_file():
        return lambda text: False
    ids = {key for source in SOURCES for key in taught_texts(run, source)}
    texts = {normalised(text.text) for text in read_texts(run) if text.id in ids}
    if any(key.startswith(OF_POOL) for key in ids):
        texts |= {normalised(item.text) for item in load_demonstrations(stored_config(run).prompts.icldist)}
    # By its id a text of another run is known, too, which no corpus of this run has.
    return lambda text: normalised(text) in texts or content_id(text) in ids
