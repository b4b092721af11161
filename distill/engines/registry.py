"""Which class is which engine. A new engine of the package is a line here, and its settings beside the others'."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.config.sections.engines import PluginEngine, TeacherEngine
from distill.engines.base import Engine
from distill.errors import InputError
from distill.models import load_tokenizer
from distill.models.tokenizer import tokenizer_folder
from distill.plugins import load

if TYPE_CHECKING:
    from distill.engines.openai.token_teacher import TokenTeacher

ENGINES = {
    "transformers": "distill.engines.transformers.engine:TransformersEngine",
    "vllm": "distill.engines.vllm.engine:VllmEngine",
    "openai": "distill.engines.openai.engine:OpenAIEngine",
}
"""The engines of the package by their ``kind``; a class is imported when it is used. A user's own is named in the
config (:class:`distill.config.sections.engines.PluginEngine`)."""


def create(config: TeacherEngine, folder: Path | None, processed_scores: bool = False) -> Engine:
    """Make an engine, which loads its model.

    Raises:
        InputError: there is no such class, or it does not take the options.
        InputError, RunError: as the class raises.
    """
    reference = config.use if isinstance(config, PluginEngine) else ENGINES[config.kind]
    engine, arguments = load(reference), config.arguments(processed_scores)
    _refuse_unknown(reference, engine, arguments)
    opened: Engine = engine(config, None if config.capabilities.remote else folder, **arguments)
    return opened


def token_teacher(config: TeacherEngine, k: int) -> "TokenTeacher":
    """Connect to a model behind servers that says what else the tokens of a text might have been.

    Raises:
        InputError, ProcessDiedError: as :class:`distill.engines.openai.token_teacher.TokenTeacher`.
    """
    found: TokenTeacher = load("distill.engines.openai.token_teacher:TokenTeacher")(config, k)
    return found


def served_tokenizer(config: TeacherEngine) -> Any:
    """Return the tokenizer of a model behind servers, which the engine's settings name.

    Raises:
        InputError: it cannot be loaded.
    """
    named = getattr(config, "tokenizer", None)
    assert named is not None, "capabilities.reads_tokens says so"
    return load_tokenizer(tokenizer_folder(named.name, named.revision))


def _refuse_unknown(reference: str, engine: Any, options: dict[str, Any]) -> None:
    try:
        inspect.signature(engine).bind(None, None, **options)
    except TypeError as error:
        raise InputError(f"'{reference}' cannot be made with the options {options} ({error}). It is called with the "
                         "engine's settings, the model's folder, and the options as keyword arguments.") from error
