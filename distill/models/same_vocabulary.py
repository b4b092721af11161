"""Do teacher and student have one vocabulary? Objectives that compare token by token need it."""

from collections.abc import Mapping
from typing import Any

from distill.errors import InputError

_STRANGE = 0.01
_SHOWN = 3


def refuse_other_family(teacher: Any, student: Any, objective: str) -> None:
    """Raise where two tokenizers have little in common, before anything is asked.

    A few tokens of one alone, which may never be written, are let through.

    Raises:
        InputError: as :func:`refuse_other_vocabulary`.
    """
    ids = range(len(teacher))
    theirs = {number: name for number, name in enumerate(teacher.convert_ids_to_tokens(list(ids))) if name}
    ours = dict(enumerate(student.convert_ids_to_tokens(list(ids))))
    if sum(ours[number] != name for number, name in theirs.items()) > _STRANGE * len(theirs):
        refuse_other_vocabulary(theirs, student, objective)


def refuse_other_vocabulary(theirs: Mapping[int, str], tokenizer: Any, objective: str, rows: int | None = None
                            ) -> None:
    """Raise where tokens of the teacher are others to the student.

    ``theirs``: what the teacher calls each id ("": an id without a token); ``tokenizer``: the student's;
    ``objective``: the kind that needs it; ``rows``: how many ids the student has embeddings for.

    Raises:
        InputError: see above.
    """
    ids = sorted(theirs)
    names = tokenizer.convert_ids_to_tokens(ids)
    differ = [(number, theirs[number], name or "") for number, name in zip(ids, names, strict=True)
              if (name or "") != theirs[number] or (rows is not None and number >= rows)]
    if not differ:
        return
    shown = "; ".join(f"{number} is {one!r} to the teacher and " + (
        f"{other!r} to the student" if rows is None or number < rows else f"beyond the student's {rows} ids")
        for number, one, other in differ[:_SHOWN])
    raise InputError(
        f"train.objective is '{objective}', which learns the teacher's probabilities token by token, but the student "
        f"has another vocabulary: of {len(ids):,} tokens, {len(differ):,} differ ({shown}). Choose a student of the "
        "teacher's family, or train.objective labels or sft, which need no common vocabulary"
        + ("; or, to compare them across vocabularies (experimental), train.objective "
           "{kind: logits, across_vocabularies: gold}." if objective == "logits" else "."))


def refuse_other_tokens(teacher: Any, student: Any, objective: str) -> None:
    """Raise where an id that two tokenizers have is another token in one than in the other.

    Raises:
        InputError: as :func:`refuse_other_vocabulary`.
    """
    ids = list(range(min(len(teacher), len(student))))
    names = teacher.convert_ids_to_tokens(ids)
    refuse_other_vocabulary({number: name or "" for number, name in zip(ids, names, strict=True)}, student, objective)
