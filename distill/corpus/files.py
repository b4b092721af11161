"""From the ``path`` of a file source to files: glob patterns, shipped data, and helpful words when there is none."""

import difflib
import glob
from pathlib import Path

from distill.config.schema import FileSource
from distill.errors import InputError
from distill.resources import PREFIX, shipped


def source_files(source: FileSource) -> list[Path]:
    """Return the files of a source, sorted. ``path`` is a file, or a glob pattern; 'shipped:' is the project's data.

    Raises:
        InputError: there is no such file; the message lists near names.
    """
    path = _resolved(source.path)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise InputError(f"The corpus source {source.path} is a folder. Name its files, for example {path / '*'}.")
    if glob.has_magic(str(path)):
        files = sorted(Path(found) for found in glob.glob(str(path), recursive=True) if Path(found).is_file())
        if files:
            return files
    raise InputError(_missing_message(source.path, path))


def _resolved(path: str) -> Path:
    if not path.startswith(PREFIX):
        return Path(path)
    parts = Path(path.removeprefix(PREFIX)).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    # A file that does not ship is reported with its near names, so only its folder is asked for.
    fixed = min(fixed, max(len(parts) - 1, 0))
    return shipped(str(Path(*parts[:fixed]))).joinpath(*parts[fixed:])


def _missing_message(asked: str, path: Path) -> str:
    folder = path.parent
    while not glob.has_magic(str(folder)) and not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    what = "No file matches the pattern" if glob.has_magic(str(path)) else "There is no file"
    message = f"{what} {asked}, which the config names as a corpus source."
    if glob.has_magic(str(folder)):
        return message + " Check the pattern."
    if folder != path.parent:
        return message + f" Its folder does not exist either; the nearest that does is {folder}."
    names = sorted(item.name for item in folder.iterdir())
    shown = difflib.get_close_matches(path.name, names, n=5, cutoff=0.5) or names[:5]
    return message + (f" In {folder} there is: {', '.join(shown)}." if shown else f" {folder} is empty.")
