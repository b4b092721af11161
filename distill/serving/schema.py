"""What a request holds and what answers it: JSON in, JSON out."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

from distill.prediction.run import values_of
from distill.prediction.student import Prediction
from distill.serving.limits import Limits

TEXT_TOO_LONG = "text_too_long"
"""The problem of a text that this server does not give to its model."""
_LONGEST = 200  # characters of what a parser says


class WrongRequestError(Exception):
    """A request that cannot be answered, with the status and the paragraph for its client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PredictRequest(BaseModel):
    """A text, or a list of texts, to label."""

    model_config = ConfigDict(json_schema_extra={"examples": [
        {"inputs": ["Room was tiny", "The staff saved the day"], "probabilities": True}, {"inputs": "Room was tiny"}]})
    inputs: str | list[str] = Field(description="One text, or a list of them")
    probabilities: bool = Field(False, description="Give the probabilities of all labels, too")


class PredictedText(BaseModel):
    """What the model says of one text, in the words of ``distill predict``."""

    label: str | list[str] = Field("", description="The likeliest label; a list where several may apply; empty where "
                                                   "there is none")
    tuples: list[Any] | None = Field(None, description="Of a task of tuples, in place of a label")
    probability: float | None = Field(None, description="Its likelihood as a share of that of all labels")
    probabilities: dict[str, float] | None = Field(None, description="That of every label, where it was asked for")
    problem: str = Field(description="Why there is no label, or what is wrong with it; empty where all is well")
    answered_by: str = Field("", description="Of a cascade: student or teacher")


class PredictAnswer(BaseModel):
    """An entry for each text, in their order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"predictions": [
        {"label": "negative", "probability": 0.91, "problem": ""}]}]})
    predictions: list[PredictedText]


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str


def read_request(body: bytes, limits: Limits) -> PredictRequest:
    """Return what a body asks.

    Raises:
        WrongRequestError: it is no JSON (400), or not as it should be (422).
    """
    try:
        asked = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise WrongRequestError(400, f"The body is no valid JSON ({str(error)[:_LONGEST]}). Send an object such as "
                                     '{"inputs": "Room was tiny"}.') from error
    if not isinstance(asked, dict) or "inputs" not in asked:
        raise WrongRequestError(422, 'The body must be a JSON object with "inputs": a text, or a list of texts.')
    if unknown := sorted(set(asked) - set(PredictRequest.model_fields)):
        raise WrongRequestError(422, f"There is no key '{unknown[0][:_LONGEST]}'. A request has "
                                     f"{' and '.join(PredictRequest.model_fields)}.")
    inputs, probabilities = asked["inputs"], asked.get("probabilities", False)
    if not isinstance(probabilities, bool):
        raise WrongRequestError(422, f"probabilities is {_kind(probabilities)}, but must be true or false.")
    if not isinstance(inputs, str | list):
        raise WrongRequestError(422, f"inputs is {_kind(inputs)}, but must be a text or a list of texts.")
    if isinstance(inputs, list):
        if not inputs:
            raise WrongRequestError(422, "inputs is an empty list. Give at least one text.")
        if len(inputs) > limits.max_texts:
            raise WrongRequestError(422, f"inputs holds {len(inputs):,} texts, but a request may hold "
                                         f"{limits.max_texts:,}. Send them in several requests.")
        for place, text in enumerate(inputs):
            if not isinstance(text, str):
                raise WrongRequestError(422, f"inputs[{place}] is {_kind(text)}, but must be a text.")
    return PredictRequest(inputs=inputs, probabilities=probabilities)


def answer_of(predictions: Sequence[Prediction], columns: Sequence[str]) -> dict[str, Any]:
    """Return the answer to a request; ``columns`` are those that ``distill predict`` would write."""
    return {"predictions": [dict(zip(columns, values_of(one, columns), strict=True)) for one in predictions]}


def too_long(text: str, limits: Limits) -> Prediction | None:
    """Return what is said of a text that the model is not given, else None."""
    if len(text) <= limits.max_characters:
        return None
    return Prediction(problem=f"{TEXT_TOO_LONG}: {len(text):,} characters, and this server takes "
                              f"{limits.max_characters:,}")


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", bool: "true or false", str: "a text", type(None): "null"}.get(
        type(value), "a number")
