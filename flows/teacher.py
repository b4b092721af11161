"""What prompts must know of the teacher before it is asked: how it counts tokens, and how many it takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill.errors import InputError
from distill.run.markers import is_finished, read_done
from flows.run import Run


@dataclass(frozen=True)
class TeacherWindow:
    """The tokenizer that counts, the form prompts are counted in, the context in tokens, and what decides the counts.

    Where families differ in form, a prompt must fit in the longer.
    """

    tokenizer: Any
    form: Literal["raw", "chat", "mixed"]
    context: int
    identity: str


def teacher_window(run: Run, student: Path) -> TeacherWindow:
    """Return the teacher's window. Behind endpoints no weights are needed, and a server may be asked for its context.

    Where the tokenizer of a model behind endpoints cannot be had, that of the ``student`` (a folder) estimates.

    Raises:
        InputError: the model or its tokenizer cannot be had, or nobody knows the context.
        ProcessDiedError: the context must be asked for, and no endpoint answers.
    """
    from distill.models import context_length, load_tokenizer, model_fingerprint, resolve_model
    from distill.models.tokenizer import tokenizer_fingerprint, tokenizer_folder

    teacher = run.teacher
    engine: Any = teacher.engine
    chat = set(teacher.chat_template.model_dump().values())
    form: Literal["raw", "chat", "mixed"] = "mixed" if len(chat) > 1 else "chat" if True in chat else "raw"
    if not engine.capabilities.remote:
        folder = resolve_model(teacher.model.name, teacher.model.revision)
        own = context_length(folder)
        tokenizer = load_tokenizer(folder, engine.chat_template_kwargs)
        return TeacherWindow(tokenizer, form, min(own, engine.max_model_len or own), model_fingerprint(folder))
    known = engine.tokenizer
    folder = tokenizer_folder(known.name, known.revision) if known else student
    tokenizer = load_tokenizer(folder, engine.chat_template_kwargs if known else None)
    return TeacherWindow(tokenizer, form if known or tokenizer.chat_template else "raw", _context(run, engine),
                         f"tokenizer {tokenizer_fingerprint(folder)}")


def _context(run: Run, engine: Any) -> int:
    """Return the context of the config, else the one that finished prompts were made with, else the servers'.

    So finished prompts do not need the servers to be there, nor change with them.
    """
    from distill.engines import open_engine

    if engine.max_model_len:
        return int(engine.max_model_len)
    if is_finished(run.folder / "prompts") and run.on_change != "discard":
        return int(read_done(run.folder / "prompts")["inputs"]["limits"]["windows"]["teacher"][0])
    with open_engine(engine, None) as opened:
        if opened.max_model_len:
            return opened.max_model_len
    raise InputError("The servers do not say how many tokens the teacher takes, prompt and answer together. Set "
                     "teacher.engine.max_model_len to it.")
