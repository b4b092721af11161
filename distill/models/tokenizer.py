"""The tokenizer of a model whose weights are elsewhere: behind an endpoint."""

import hashlib
import os
from pathlib import Path

from distill.models.hub import hub_folder
from distill.models.resolve import BUILT_IN, is_hub_name, nearest_built_in, resolve_model
from distill.run.hashing import file_digest

# What decides how text becomes tokens, and where an answer ends.
_CONTENT = ("tokenizer*", "*.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
            "merges.txt", "*.model", "generation_config.json")


def tokenizer_folder(name: str, revision: str | None = None) -> Path:
    """Return a local folder with the tokenizer of the model called ``name``, fetching no weights.

    ``name`` and ``revision`` are as for :func:`distill.models.resolve_model`; a local folder needs no more than the
    tokenizer's own files.

    Raises:
        InputError: there is no such model, or it cannot be reached from here.
    """
    folder = Path(name).expanduser()
    if revision is None and os.path.isfile(folder / "tokenizer_config.json"):
        return folder.resolve()
    if name not in BUILT_IN and not os.path.isdir(folder) and is_hub_name(name):
        return hub_folder(name, revision, weights=False, hint=nearest_built_in(name))
    return resolve_model(name, revision)


def tokenizer_fingerprint(folder: Path) -> str:
    """Return a 16-character digest of a folder's tokenizer, by content."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted({path for pattern in _CONTENT for path in folder.glob(pattern) if path.is_file()}):
        digest.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()
