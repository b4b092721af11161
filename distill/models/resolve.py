"""A model's name to a local folder: built in, a folder already, or a repository on the Hugging Face Hub."""

import difflib
import os
from pathlib import Path

from distill.errors import InputError
from distill.models import builtin
from distill.models.hub import hub_folder
from distill.resources import default_cache

BUILT_IN = {"smollm2-135m-instruct": builtin.smollm2, "random-tiny": builtin.random_tiny,
            "all-minilm-l6-v2": builtin.minilm}
ON_HUB = {"smollm2-135m-instruct": builtin.SMOLLM2_ON_HUB, "all-minilm-l6-v2": builtin.MINILM_ON_HUB}
"""Built-in models by their name on the Hub, where they have one."""


def resolve_model(
    name: str, revision: str | None = None, cache: Path | None = None, pickled: bool = False
) -> Path:
    """Return a local folder that holds the model called ``name``, fetching or building it once if need be.

    ``name`` is a local folder, one of ``BUILT_IN``, or a Hub name such as ``org/model``; ``revision`` is a
    Hub branch, tag or commit. What is built goes to ``cache`` (default: :func:`default_cache`).
    ``pickled``: as :func:`hub_folder`.

    Raises:
        InputError: there is no such model, or it cannot be reached from here.
        RunError: what was downloaded is damaged.
    """
    folder = Path(name).expanduser()
    if name in BUILT_IN:
        if revision is not None:
            raise InputError(f"The built-in model '{name}' has no revisions, but revision '{revision}' was asked for. "
                             "Leave revision out.")
        return BUILT_IN[name](cache or default_cache())
    if name.strip() and os.path.isdir(folder):  # as a path, it may be too long
        if not (folder / "config.json").is_file():
            raise InputError(f"The folder {folder} is not a model: it holds no config.json. Name a folder as "
                             "save_pretrained of transformers writes it.")
        if revision is not None:
            raise InputError(f"'{name}' is a local folder, which has no revisions, but revision '{revision}' was "
                             "asked for. Leave revision out.")
        return folder.resolve()
    if not is_hub_name(name):
        raise InputError(f"There is no model folder '{name}'.{nearest_built_in(name)} Give a folder that exists, a "
                         f"built-in name ({', '.join(sorted(BUILT_IN))}), or a Hub name such as 'org/model'.")
    return hub_folder(name, revision, hint=nearest_built_in(name), pickled=pickled)


def is_hub_name(name: str) -> bool:
    """Say whether a name can be that of a Hub repository."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or not name.strip():
        return False
    return "/" in name or not nearest_built_in(name)  # a misspelt built-in name is not looked for on the Hub


def nearest_built_in(name: str) -> str:
    """Return a sentence that proposes the built-in model whose name is like this one; empty for none."""
    close = difflib.get_close_matches(name.lower().split("/")[-1], list(BUILT_IN), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
