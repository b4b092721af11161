"""Models on the Hugging Face Hub, as folders on this machine."""

import os
from pathlib import Path

from distill.errors import InputError
from distill.run.storage import read_json

PICKLED = "pytorch_model.bin"
_TOKENIZER_FILES = ["*.json", "*.jinja", "*.model", "tokenizer*", "merges.txt", "vocab.txt"]


def hub_folder(name: str, revision: str | None, weights: bool = True, hint: str = "", pickled: bool = False) -> Path:
    """Return the local copy of a Hub repository, or of all in it but the weights: the one here, else a fresh download.

    ``hint`` is said where the name is not found. With ``pickled``, a repository without safetensors may have its
    weights as pytorch_model.bin, as older encoders do.

    Raises:
        InputError: it is not here, and the Hub does not have it or cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    files = [*_TOKENIZER_FILES, *(["*.safetensors"] if weights else [])]
    try:
        here = Path(snapshot_download(name, revision=revision, allow_patterns=files, local_files_only=True))
        if is_complete(here, pickled) if weights else (here / "tokenizer_config.json").is_file():
            return here
    except (OSError, ValueError, HFValidationError):
        pass  # not here yet
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=files, etag_timeout=10))
        if weights and pickled and not is_complete(folder, pickled):  # asked for only where there are no safetensors
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*files, PICKLED], etag_timeout=10))
    except (OSError, ValueError, RuntimeError, HfHubHTTPError) as error:
        raise InputError(_unreachable(name, revision, error, hint)) from error
    if weights and not is_complete(folder, pickled):
        forms = f"safetensors or {PICKLED}" if pickled else "safetensors weights"
        raise InputError(f"The Hub repository '{name}' holds no config.json with {forms}, so it is no model that "
                         "sentidistill can load. Choose the repository of a transformers model.")
    return folder


def is_complete(folder: Path, pickled: bool = False) -> bool:
    """Say whether a folder holds a config and all the safetensors files that its index names; or pytorch_model.bin."""
    if not (folder / "config.json").is_file():
        return False
    if pickled and (folder / PICKLED).is_file():
        return True
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        return all((folder / part).is_file() for part in set(read_json(index)["weight_map"].values()))
    return any(folder.glob("*.safetensors"))


def _unreachable(name: str, revision: str | None, error: Exception, hint: str) -> str:
    first_line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    at = f" at revision '{revision}'" if revision else ""
    why = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return (f"The model '{name}'{at} was not found: it is no local folder and no built-in name, the local Hub cache "
            f"does not hold it, and the Hugging Face Hub did not give it{why} ({type(error).__name__}: "
            f"{first_line[:200]}).{hint} Check the name, or download the model elsewhere and give "
            "its folder instead.")
