"""A model's name to a local folder: built in, a folder already, or a repository on the Hugging Face Hub."""

import difflib
import os
from pathlib import Path

from distill.errors import InputError
from distill.models import builtin
from distill.resources import default_cache

BUILT_IN = {"smollm2-135m-instruct": builtin.smollm2, "random-tiny": builtin.random_tiny}
ON_HUB = {"smollm2-135m-instruct": builtin.SMOLLM2_ON_HUB}
"""Built-in models by their name on the Hub, where they have one."""
_TOKENIZER_FILES = ["*.json", "*.jinja", "*.model", "tokenizer*", "merges.txt", "vocab.txt"]


def resolve_model(name: str, revision: str | None = None, cache: Path | None = None) -> Path:
    """Return a local folder that holds the model called ``name``, fetching or building it once if need be.

    ``name`` is a local folder, one of ``BUILT_IN``, or a Hub name such as ``org/model``; ``revision`` is a
    Hub branch, tag or commit. What is built goes to ``cache`` (default: :func:`default_cache`).

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
    if name.strip() and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"The folder {folder} is not a model: it holds no config.json. Name a folder as "
                             "save_pretrained of transformers writes it.")
        if revision is not None:
            raise InputError(f"'{name}' is a local folder, which has no revisions, but revision '{revision}' was "
                             "asked for. Leave revision out.")
        return folder.resolve()
    if not is_hub_name(name):
        raise InputError(f"There is no model folder '{name}'.{_nearest(name)} Give a folder that exists, a built-in "
                         f"name ({', '.join(sorted(BUILT_IN))}), or a Hub name such as 'org/model'.")
    return hub_folder(name, revision)


def hub_folder(name: str, revision: str | None, weights: bool = True) -> Path:
    """Return the local copy of a Hub repository, or of all in it but the weights: the one here, else a fresh download.

    Raises:
        InputError: it is not here, and the Hub does not have it or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    files = [*_TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    try:
        here = Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=True))
        if is_complete(here) if weights else (here / "tokenizer_config.json").is_file():
            return here
    except (OSError, ValueError, HFValidationError):
        pass  # not here yet
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=files, etag_timeout=10))
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        raise InputError(_unreachable(name, revision, error)) from error
    if weights and not is_complete(folder):
        raise InputError(f"The Hub repository '{name}' holds no config.json with safetensors weights, so it is no "
                         "model that sentidistill can load. Choose the repository of a transformers language model.")
    return folder


def is_complete(folder: Path) -> bool:
    """Say whether a folder holds a config and all the safetensors files that its index names."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        from distill.storage import read_json

        return all((folder / part).is_file() for part in set(read_json(index)["weight_map"].values()))
    return any(folder.glob("*.safetensors"))


def is_hub_name(name: str) -> bool:
    """Say whether a name can be that of a Hub repository."""
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or not name.strip():
        return False
    return "/" in name or not _nearest(name)  # a misspelt built-in name is not looked for on the Hub


def _nearest(name: str) -> str:
    close = difflib.get_close_matches(name.lower().split("/")[-1], list(BUILT_IN), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


def _unreachable(name: str, revision: str | None, error: Exception) -> str:
    first_line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    at = f" at revision '{revision}'" if revision else ""
    why = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return (f"The model '{name}'{at} was not found: it is no local folder and no built-in name, the local Hub cache "
            f"does not hold it, and the Hugging Face Hub did not give it{why} ({type(error).__name__}: "
            f"{first_line[:200]}).{_nearest(name)} Check the name, or download the model elsewhere and give "
            "its folder instead.")
