"""Which folders are ours: how they are named, marked and found again. Nothing is written to or deleted in another.

A folder that we make bears a mark, the file ``.sentidistill``: what it is for, and the version of its format. A folder
that was there before, and is not empty, never gets one.
"""

import json
import os
import shlex
import shutil
import stat
import tempfile
import unicodedata
from pathlib import Path
from typing import Any, Literal, get_args

from distill.errors import InputError
from distill.run.storage import write_text

MARK = ".sentidistill"
FORMAT = 2
"""Version of the layout of our folders; raised when what an earlier version wrote can no longer be gone on with.

2: a run's folders are called dataset, validation and teacher_eval (1: sft, heldout, quality), and its markers and
config say the format.
"""
Kind = Literal["run", "stage", "results", "evaluations", "lm-eval tasks", "experiment"]
_OLDEST: dict[Kind, int] = {"run": 2, "stage": 2, "results": 1, "evaluations": 1, "lm-eval tasks": 1, "experiment": 2}
"""The oldest format that is read, by kind."""
LONGEST_NAME = 100  # characters; what is made of a name is longer, and a file system takes 255 bytes
_LONGEST_PATH = 2048  # bytes; Linux takes 4,096, and inside a run paths grow
_LONGEST_MARK = 4096
_PUNCTUATION = "._-+=@ "
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
_BIDIRECTIONAL = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_WHAT = {"run": "a run", "stage": "a stage of a run", "results": "results of SentiBench",
         "evaluations": "a history of evaluations", "lm-eval tasks": "exported tasks", "experiment": "an experiment"}


def check_name(name: str, option: str = "--run") -> str:
    """Return a name under which a folder may be made below another one.

    Raises:
        InputError: it could lead elsewhere, cannot be printed, or is too long for a file system.
    """
    _check_text(name, option)
    good = all(unicodedata.category(char)[0] in "LMN" or char in _PUNCTUATION for char in name)
    if not good or (unicodedata.category(name[0])[0] not in "LN" and name[0] != "_") or name.endswith((" ", ".")):
        raise InputError(f"{option} {name!r} cannot be the name of a folder of ours. A name begins with a letter or "
                         f"digit and holds letters, digits and '{_PUNCTUATION}', as in my-run; a path holds a slash, "
                         "as in ./my-run.")
    if len(name) > LONGEST_NAME or len(name.encode()) > 2 * LONGEST_NAME:
        raise InputError(f"{option} {name[:30]!r}… is longer than {LONGEST_NAME} characters or {2 * LONGEST_NAME} "
                         "bytes. Choose a shorter name.")
    return name


def check_path(path: str, option: str = "--run") -> Path:
    """Return a path that somebody typed, in a form in which it can be opened and printed.

    Raises:
        InputError: it holds what cannot be printed, is too long, or begins with a ``~`` that no shell replaced.
    """
    _check_text(path, option)
    if path.startswith("~"):
        raise InputError(f"{option} {path!r} begins with '~', which only a shell replaces, by the home of whoever runs "
                         "it. Write the path out.")
    parts = [len(part.encode()) for part in Path(path).parts]
    if sum(parts) + len(os.fsencode(os.getcwd())) > _LONGEST_PATH or max(parts, default=0) > 255:
        raise InputError(f"{option} {path[:30]!r}… is longer than a file system takes. Choose a shorter one.")
    return Path(path)


def folder_named(run: str | None, default: str, parent: str) -> Path:
    """Return where a run is kept: ``run`` as a path where it holds a slash, else a name below ``parent``.

    None is the ``default``; an empty name is none, as a shell makes it of a variable that is not set.

    Raises:
        InputError: as :func:`check_name` and :func:`check_path`; or a path leads up (``..``), or names no folder.
    """
    if run is None or "/" not in run:
        return check_path(parent, "runs_dir") / (default if run is None else check_name(run))
    path = check_path(run)
    if is_marked(path):
        return path if path.name else path.resolve()
    if ".." in path.parts or not path.name:
        raise InputError(f"--run {run!r} is no run, and no place for a new one: the path of a new run ends in its name "
                         "and holds no '..'. Give such a path, or a name alone.")
    check_name(path.name)
    return path


def is_marked(folder: Path) -> bool:
    """Say whether a folder bears a mark of ours, of whatever kind.

    Raises:
        InputError: what stands in the place of the mark is none.
    """
    return _read_mark(folder) is not None


def is_kind(folder: Path, kind: Kind) -> bool:
    """Say whether a folder bears a mark of ours, of this kind. Raises as :func:`is_marked`."""
    mark = _read_mark(folder)
    return mark is not None and mark["kind"] == kind


def check_mark(folder: Path, kind: Kind = "run") -> None:
    """Refuse a folder that does not bear our mark.

    Raises:
        InputError: it bears none, or one of another kind, of another version's format, or one that cannot be read.
    """
    mark = _read_mark(folder)
    if mark is None:
        there = folder.exists()
        raise InputError(_unmarked(folder, kind) if there else f"There is no folder {folder}. Check the path.")
    if not _OLDEST[mark["kind"]] <= mark["format"] <= FORMAT:
        raise InputError(other_format(folder, mark["format"]))
    if mark["kind"] != kind:
        raise InputError(f"{folder} holds {_WHAT[mark['kind']]}, not {_WHAT[kind]}. Choose another folder.")


def other_format(folder: Path, written: int) -> str:
    """Say in one paragraph that a folder is of another version's ``written`` format, and what to do."""
    if written > FORMAT:
        return (f"{folder} was made by a newer version of sentidistill (format {written}; this one knows {FORMAT}), "
                "and is left as it is. Update sentidistill, or choose another folder.")
    return (f"{folder} was made by an earlier version of sentidistill (format {written}; this one reads {FORMAT}), and "
            "is left as it is. Go on with it with that version, or choose another folder.")


def claim(folder: Path, kind: Kind = "run") -> Path:
    """Return ``folder`` as one of ours: made and marked where it does not exist or is empty, else as it was marked.

    Raises:
        InputError: it is a file, cannot be made, lies in a run, or holds something and does not bear our mark; or as
            :func:`check_mark`.
    """
    if is_marked(folder):
        check_mark(folder, kind)
        return folder
    if folder.is_symlink() and not folder.exists():
        raise InputError(f"{folder} is a symbolic link to what does not exist ({os.readlink(folder)}). Make the folder "
                         "that it leads to, or choose another one.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, and a folder is needed. Choose another name.")
    if is_filled(folder):
        raise InputError(_unmarked(folder, kind))
    if kind != "stage" and (run := _run_around(folder)):
        raise InputError(f"{folder} lies in the run {run}, whose files are its own. Choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / MARK, json.dumps({"kind": kind, "format": FORMAT}) + "\n")
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}). Choose another one.") from error
    return folder


def is_filled(folder: Path) -> bool:
    """Say whether there is a folder and anything in it."""
    return folder.is_dir() and any(not _is_half_mark(item) for item in folder.iterdir())


def claim_stage(folder: Path) -> None:
    """Make sure that a stage may write and delete in ``folder``: it lies in a run of ours, or is marked for itself.

    A stage that is called for itself, outside a run, marks its own folder, if that is absent or empty.

    Raises:
        InputError: it is neither; or it is reached, or holds something, through a symbolic link.
    """
    above = [folder.parent, folder.parent.parent]
    root = next((place for place in above if is_marked(place)), None)
    between = above[:above.index(root)] if root is not None else []
    for place in (folder, *between):
        if place.is_symlink():
            raise InputError(_linked(place))
    if root is None:
        claim(folder, "stage")
    else:
        check_mark(root)
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (link := Path(parent, name)).is_symlink():
                raise InputError(_linked(link))


def refuse_links(run: Path) -> None:
    """Refuse a run in which a stage's folder, or a file beside them, is a symbolic link: we would write elsewhere.

    Raises:
        InputError: one is.
    """
    for path in sorted([*run.iterdir(), *run.glob("*/*")]):
        if path.is_symlink():
            raise InputError(_linked(path))


def remove(path: Path) -> None:
    """Delete a file, a folder with all that is in it, or a symbolic link (never what it leads to), if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def error_log(model: Path) -> Path:
    """Return where the traceback of work with a model goes: beside it in a run of ours, else among temporary files."""
    ours = any(is_marked(place) for place in (model, model.parent, model.parent.parent))
    return model / "error.log" if ours else Path(tempfile.gettempdir()) / f"sentidistill-{os.getpid()}.error.log"


def file_part(text: str) -> str:
    """Return a text as part of a file's name: other characters than those of names are replaced, and it is cut."""
    kept = "".join(char if char.isalnum() or char in "._-+=@" else "_" for char in text)
    return kept.encode()[:LONGEST_NAME].decode(errors="ignore") or "_"


def adoption(folder: Path, kind: Kind = "run") -> str:
    """Return the command that marks a folder anew which has lost its mark."""
    mark = json.dumps({"kind": kind, "format": FORMAT})
    return f"echo '{mark}' > {shlex.quote(str(folder / MARK))}"


def _check_text(text: str, option: str) -> None:
    if not text.strip():
        raise InputError(f"{option} is empty. Name a folder.")
    bad = [char for char in text if unicodedata.category(char) in _UNPRINTABLE or char in _BIDIRECTIONAL]
    if bad:
        raise InputError(f"{option} {text[:60]!a} holds the character U+{ord(bad[0]):04X}, which cannot be "
                         "printed. Choose a name without it.")


def _read_mark(folder: Path) -> dict[str, Any] | None:
    """Return what a folder's mark says, None where there is no mark."""
    path = folder / MARK
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"The mark {path} cannot be read ({error.strerror}), so {folder} is left as it is. Choose "
                         "another folder.") from error
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        content = os.read(descriptor, _LONGEST_MARK) if regular else b""
    finally:
        os.close(descriptor)
    try:
        mark = json.loads(content)
        known = mark["kind"] in get_args(Kind) and type(mark["format"]) is int and mark["format"] > 0
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise InputError(f"The mark {path} does not say what the folder is, so {folder} is left as it is. If it really "
                         f"is a run of sentidistill, mark it anew: {adoption(folder)}")
    return dict(mark)


def _is_half_mark(path: Path) -> bool:
    """Say whether a file is a mark that is being written, or that a crash cut short (storage.atomic_path)."""
    return path.name.startswith(f".{MARK}.") and path.name.endswith(".tmp")


def _run_around(folder: Path) -> Path | None:
    marks = ((place, _read_mark(place)) for place in folder.resolve().parents)
    return next((place for place, mark in marks if mark and mark["kind"] == "run"), None)


def _unmarked(folder: Path, kind: Kind) -> str:
    return (f"{folder} is there, but was not made by sentidistill as {_WHAT[kind]}: it bears no mark ({MARK}), so "
            "nothing in it is read, written or deleted. Choose another name. If it is one of this version's that lost "
            f"its mark, as in a copy without hidden files, mark it: {adoption(folder, kind)}")


def _linked(path: Path) -> str:
    where = os.readlink(path)
    return (f"{path} is a symbolic link (to {where}), and nothing is written or deleted through links in a run. Put "
            "the folder or file itself there; to keep runs on another disk, set runs_dir to a folder there.")
