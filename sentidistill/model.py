"""A student in this process, loaded once."""

import contextlib
import weakref
from collections.abc import Iterable
from typing import Self, overload

from distill.errors import InputError
from distill.prediction.student import Prediction, Student, opened
from flows.students import find_student


class Model:
    """A student that answers texts. It holds its weights until it is closed or gone; it may be used as a context."""

    def __init__(self, student: Student) -> None:
        """Load the student. Raises InputError or RunError where it cannot be."""
        self._open = contextlib.ExitStack()
        weakref.finalize(self, self._open.close)  # at the latest when Python ends, while its modules are still there
        self._predict = self._open.enter_context(opened(student.opener, student.spec))
        self.name, self.fingerprint = student.name, student.fingerprint

    @overload
    def __call__(self, texts: str) -> Prediction: ...  # type: ignore[overload-overlap]  # a str holds str
    @overload
    def __call__(self, texts: Iterable[str]) -> list[Prediction]: ...
    def __call__(self, texts: str | Iterable[str]) -> Prediction | list[Prediction]:
        """Return the prediction of a text, or of each of several, which together are faster than one by one.

        What is wrong with a text (it is empty, or too long for the model) stands in its prediction's ``problem``.

        Raises:
            InputError: something among them is no text.
        """
        if isinstance(texts, str):
            return self._predict([texts])[0]
        listed = list(texts)
        if wrong := [place for place, text in enumerate(listed) if not isinstance(text, str)]:
            raise InputError(f"Item {wrong[0]} of the texts is a {type(listed[wrong[0]]).__name__}. Give strings.")
        return self._predict(listed)

    def close(self) -> None:
        """Give the memory back."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(model: str, task: str | None = None, shots: int = 0, prompt_format: str | None = None,
         engine: str = "transformers", max_tokens: int | None = None) -> Model:
    """Load a student: a run, a model's folder, an encoder's folder, or a Hub name.

    ``task``: one that it was trained on (default: sentiment), or a task file; ``shots``: how many of the task's
    demonstrations it is shown; ``prompt_format``: raw or chat (default: as it was trained); ``engine``: transformers,
    or vllm where that is installed; ``max_tokens``: of an answer that it writes, reasoning among it.

    Raises:
        InputError: there is no such model or task. RunError: it cannot be loaded.
    """
    return Model(find_student(str(model), task, shots, prompt_format, engine, max_tokens=max_tokens))
