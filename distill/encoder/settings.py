"""The settings of a saved or exported classifier, read without what computes."""

import os
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.storage import read_json

SETTINGS = "classifier.json"


def settings_of(folder: Path) -> dict[str, Any]:
    """Return how a saved or exported classifier is asked, and what its classes are called.

    Raises:
        InputError: the folder holds none.
    """
    if not os.path.isfile(folder / SETTINGS):  # which is False, and no error, for a name that nothing can have
        raise InputError(f"{folder} holds no encoder classifier: {SETTINGS} is missing. Name a folder that "
                         "'distill encoder train' or 'distill encoder export' made, such as runs/<name>/models/seed42.")
    settings: dict[str, Any] = read_json(folder / SETTINGS)
    return settings
