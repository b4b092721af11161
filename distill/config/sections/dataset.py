"""The part ``dataset``: how answers become training rows."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from distill.config.sections.base import LocalPath, Section


class Compose(Section):
    """How many answers a row of stage 2 teaches. Ours.

    ``asked``: one, of the prompt as the teacher was asked. ``many``: texts with the teacher's own answers are put
    together into few-shot rows, and every answer carries loss.
    """

    kind: Literal["asked", "many"] = Field("asked", description="asked: rows as the teacher was asked; many: label "
                                                                "prompts of one format are put together")
    texts_per_row: int = Field(6, ge=2, le=64, description="with many: texts of a row, at most")

    @model_validator(mode="after")
    def _texts_are_put_together(self) -> Self:
        if self.kind == "asked" and self.texts_per_row != type(self).model_fields["texts_per_row"].default:
            raise ValueError(f"texts_per_row is {self.texts_per_row}, but kind is asked, whose rows have one text that "
                             "is learned; set kind to many")
        return self


def _kind_alone(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class Dataset(Section):
    """What rows are made of the teacher's answers."""

    compose: Annotated[Compose, BeforeValidator(_kind_alone)] = Compose()
    other_runs: list[LocalPath] = Field([], description="ours: folders of finished runs whose teachers' answers become "
                                                        "rows beside this run's own")
