"""The command ``distill push``: a student as a repository on the Hub."""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from distill.errors import InputError
from distill.export.folder import read_record
from distill.export.push import check_repository, push_folder
from distill.run.storage import read_text
from flows.export import FORMS, export_model
from flows.report.card import CARD

_MOST_BYTES = 1 << 22


def push_command(arguments: argparse.Namespace) -> None:
    """Say what a repository is to hold, and upload it."""
    check_repository(arguments.repository, arguments.endpoint)
    with _folder(arguments.model) as folder:
        print("\n".join(_told(folder, arguments)))
        if arguments.dry_run:
            print("Nothing was uploaded (--dry-run).")
            return
        done = push_folder(folder, arguments.repository, arguments.private, arguments.revision, arguments.endpoint)
    print(f"{'Uploaded' if done.is_new else 'All of it was there already'}: {done.url} (commit {done.commit[:10]})")


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """Yield what is uploaded: an exported folder as it is; of another model, what an export of it would be."""
    if name.strip() and Path(name).is_dir() and read_record(Path(name)):
        yield Path(name)
        return
    with tempfile.TemporaryDirectory(prefix="sentidistill-") as place:
        yield export_model(name, FORMS["merged"], Path(place, "model"), False, None, 0, Path(place, "log")).folder


def _told(folder: Path, arguments: argparse.Namespace) -> Iterator[str]:
    branch = f", branch {arguments.revision}" if arguments.revision else ""
    private = ", private where it is made now" if arguments.private else ""
    yield f"{arguments.model} goes to {arguments.repository}{branch}{private}:"
    from huggingface_hub.repocard_data import model_index_to_eval_results

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        yield f"  {path.relative_to(folder)!s:<40} {path.stat().st_size:>15,} bytes"
    card = read_text(folder / CARD, _MOST_BYTES, "A model that is published needs a card.")
    front = _front(card)
    scores = len(model_index_to_eval_results(front["model-index"])[1]) if front.get("model-index") else 0
    yield f"Licence: {front.get('license', 'none named')}. Scores in the card: {scores}."
    yield from (f"  {line.lstrip('- ')}" for line in card.splitlines() if "**Mind:" in line)


def _front(card: str) -> dict[str, Any]:
    parts = card.split("---", 2)
    try:
        found = yaml.safe_load(parts[1]) if card.startswith("---") and len(parts) == 3 else {}
    except yaml.YAMLError as error:
        raise InputError(f"The head of {CARD} is no YAML ({' '.join(str(error).split())[:200]}). Mend it.") from error
    return found if isinstance(found, dict) else {}
