"""Predictions made elsewhere: a JSON Lines file with one line for each test example."""

import json
from pathlib import Path

from distill.errors import InputError
from distill.run.storage import read_text


def read_predictions(path: Path, n: int) -> list[str]:
    """Return the predictions for the ``n`` examples of a test split, in its order.

    Lines are ``{"index", "prediction"}`` in any order, indices from 0; other fields are not looked at.

    Raises:
        InputError: the file cannot be read, or a line is malformed, doubled, out of range or missing.
    """
    text = read_text(path, 1 << 30, "--predictions names a JSON Lines file.")
    found: dict[int, tuple[str, int]] = {}
    # Not splitlines(): a line separator may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            index, prediction = _line(path, number, line)
            if not 0 <= index < n:
                raise InputError(f"{path}, line {number}: the index {index} is out of range. The test split has {n} "
                                 f"examples, with indices 0 to {n - 1}.")
            if index in found:
                raise InputError(f"{path}, line {number}: the index {index} stands in line {found[index][1]} already. "
                                 "Give one prediction for each example.")
            found[index] = prediction, number
    if missing := [index for index in range(n) if index not in found]:
        shown = ", ".join(map(str, missing[:5])) + (" and others" if len(missing) > 5 else "")
        raise InputError(f"{path} has no prediction for {len(missing)} of the {n} test examples (index {shown}). Give "
                         "every example a line; an empty prediction is allowed and scored as wrong.")
    return [found[index][0] for index in range(n)]


def _line(path: Path, number: int, line: str) -> tuple[int, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise InputError(f"{path}, line {number}, is not JSON ({error}). Each line is one object such as "
                         '{"index": 0, "prediction": "positive"}.') from error
    index = row.get("index") if isinstance(row, dict) else None
    prediction = row.get("prediction") if isinstance(row, dict) else None
    if not isinstance(index, int) or isinstance(index, bool) or not isinstance(prediction, str):
        raise InputError(f"{path}, line {number}: it needs the fields 'index' (a whole number) and 'prediction' (a "
                         'text), for example {"index": 0, "prediction": "positive"}.')
    return index, prediction
