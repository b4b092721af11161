"""The texts of some files of a source, each with its domain and rank; what cannot be used is counted and listed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from distill.config.schema import FilesBase, FileSource, HubSource, PluginSource, Source, SourceBase
from distill.corpus.personal import excerpt
from distill.corpus.readers import presets
from distill.corpus.readers.compression import Entry, opened, plain_name
from distill.corpus.readers.damage import Unfit, readable
from distill.corpus.readers.files import SourceFile
from distill.corpus.readers.formats import format_of
from distill.corpus.readers.hub import read_hub
from distill.corpus.readers.rows import Columns, Row, has_control_characters, is_other_encoding, is_unicode
from distill.corpus.step_counts import Step, printable
from distill.errors import InputError
from distill.run.hashing import content_id, content_rank

SHOWN = 10
_DOMAIN_COLUMN = "column:"
_UNKNOWN_DOMAIN = "unknown"
_UNREADABLE = ("malformed_line", "invalid_utf8", "line_too_long", "lone_surrogate")


@dataclass
class Seen:
    """What some files and members of a source were: how many ``fit``, what was wrong with others, and records of them.

    ``unfit``, ``encodings`` (of files with records in another one) and ``problems`` are words, the first ten each;
    ``unmatched`` are members that were not asked for. ``not_utf8`` counts among ``n_records`` of text files.
    """

    fit: int = 0
    n_unfit: int = 0
    unfit: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    n_records: int = 0
    not_utf8: int = 0
    encodings: list[str] = field(default_factory=list)
    n_unmatched: int = 0
    unmatched: list[str] = field(default_factory=list)
    n_members: int = 0

    def told(self) -> list[str]:
        """Return what was wrong, in words: whole files in another encoding first."""
        return [*self.encodings, *self.problems][:SHOWN]


def check_seen(source: Source, all_seen: Sequence[Seen]) -> None:
    """Check that of all files and members of a source some could be used, and that together they are UTF-8.

    Raises:
        InputError: none could; or many records are in another encoding, and the source does not say in which.
    """
    n_unfit = sum(seen.n_unfit for seen in all_seen)
    names = [name for seen in all_seen for name in seen.unmatched][:SHOWN]
    asked = isinstance(source, FilesBase) and source.members and not any(seen.n_members for seen in all_seen)
    if isinstance(source, FilesBase) and asked and (names or not n_unfit):
        raise InputError(f"No member of {source.path} has a name like '{source.members}', which members of its source "
                         f"asks for. There is: {', '.join(names) or 'nothing'}.")
    not_utf8, n = sum(seen.not_utf8 for seen in all_seen), sum(seen.n_records for seen in all_seen)
    if isinstance(source, FileSource) and source.encoding is None and not_utf8 and is_other_encoding(not_utf8, n):
        raise _other_encoding(f"{source.path}: {not_utf8:,} of {n:,} records are not UTF-8")
    if n_unfit and not any(seen.fit for seen in all_seen):
        first = next(word for seen in all_seen for word in seen.unfit)
        more = f" No other of its source's files could be used either ({n_unfit} in all)." if n_unfit > 1 else ""
        raise InputError(first + more)


def source_texts(source: Source, files: Sequence[SourceFile], seed: int, step: Step,
                 seen: Seen) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield id, text, domain, label and rank of each text; count the records in ``step`` and the files in ``seen``.

    Raises:
        InputError: a file cannot be read, or most of one is in another encoding; a file or record cannot be used, and
            the source says ``on_error: fail``.
    """
    columns, literal = _columns(source)
    masks = presets.masks_personal(source)
    for label, place, row in _rows(source, files, columns, step, seen):
        step.take()
        text, problem = row.text, row.problem
        if not problem and (not isinstance(text, str) or not text.strip()):
            problem = "no_text"
        if not problem and not is_unicode(text):
            problem = "lone_surrogate"
        if problem:
            detail = _detail(place, row)
            if problem in _UNREADABLE:
                _note_problem(source, f"{detail} ({problem})", seen)
            shown = row.excerpt or (text if isinstance(text, str) else "")
            step.drop(content_id(place, str(row.line)), problem, detail, excerpt(shown, masks))
            continue
        domain, text_id = literal or _domain(row.domain), content_id(text)
        yield text_id, text, domain, label, _rank(seed, text_id, label, domain)


def _detail(place: str, row: Row) -> str:
    if not row.line:  # it is about a whole file
        return row.detail
    where = f"{printable(place)} line {row.line}"
    return f"{where}: {row.detail}" if row.detail else where


def _rank(seed: int, text_id: str, label: str, domain: str) -> int:
    """Return what texts are chosen by: their content at random, and of the same content one by label and domain."""
    return content_rank(seed, text_id) >> 16 << 16 | content_rank(seed, label, domain) >> 48


def _note_problem(source: SourceBase, problem: str, seen: Seen) -> None:
    if source.on_error == "fail":
        raise InputError(f"{problem.rstrip('.')}. Mend the file, or set on_error of this source to skip: such records "
                         "are then counted, listed and passed over.")
    if len(seen.problems) < SHOWN:
        seen.problems.append(problem)


def _rows(source: Source, files: Sequence[SourceFile], columns: Columns, step: Step,
          seen: Seen) -> Iterator[tuple[str, str, Row]]:
    """Yield label, place and record, file by file."""
    if isinstance(source, HubSource):
        label = source.dataset + (f":{source.name}" if source.name else "")
        for row in read_hub(source, columns):
            yield label, label, row
        return
    for file in files:
        members, given = 0, step.counts.n_out
        try:
            with readable(file.place, file.address), opened(file) as entries:
                for entry in entries:
                    members += entry.is_member
                    if not entry.is_member and source.members:
                        raise Unfit(f"The source {source.path} asks for members like '{source.members}', but "
                                    f"{file.name} is no archive. Leave members out, or name archives only.")
                    for row in _asked(source, entry, columns, step, seen):
                        yield file.name, entry.name, row
        except Unfit as error:
            if members:  # of an archive that is cut off, nobody knows what is missing
                raise InputError(str(error)) from error
            yield file.name, file.name, _unfit(source, error, step.counts.n_out - given, seen)


def _asked(source: FileSource | PluginSource, entry: Entry, columns: Columns, step: Step, seen: Seen) -> Iterator[Row]:
    """Yield the records of an entry, or the one that says why it is passed over."""
    form = format_of(source)
    if entry.is_member:
        parts = entry.name.split("/")
        if parts[-1].startswith("._") or "__MACOSX" in parts:
            yield Row(0, problem="other_file", detail=f"{entry.name}: what macOS notes of a file, no file of its own")
            return
        if source.members and not fnmatchcase("/".join(parts[1:]), source.members):
            step.take()
            step.count_unlisted("other_member")
            seen.n_unmatched += 1
            if len(seen.unmatched) < SHOWN:
                seen.unmatched.append("/".join(parts[1:]))
            return
        if not source.members and form.endings and not plain_name(entry.name).endswith(form.endings):
            yield Row(0, problem="other_file", detail=f"{entry.name}: a member of an archive of {source.kind} files")
            return
        seen.n_members += 1
    n, good, not_utf8, binary = 0, 0, 0, 0
    unfit: Unfit | None = None
    try:
        for row in form.read(entry.open(), entry.name, columns):
            n += row.problem != "blank_line"
            good += not row.problem
            not_utf8 += row.problem == "invalid_utf8"
            binary += row.problem == "invalid_utf8" and has_control_characters(row.excerpt)
            yield row
        if binary * 2 > not_utf8 and is_other_encoding(not_utf8, n):
            raise Unfit(f"{entry.name} is no text file: of {n:,} lines {not_utf8:,} are not UTF-8, and most of them "
                        "hold control characters. Leave it out.")
    except Unfit as error:
        unfit = error
    # A picture says nothing of the encoding of texts.
    if form.is_text and isinstance(source, FileSource) and binary * 2 <= not_utf8:
        _check_encoding(source, entry.name, n, not_utf8, seen)
    if unfit:
        yield _unfit(source, unfit, good, seen)
    else:
        seen.fit += good > 0


def _unfit(source: FilesBase, error: Unfit, read: int, seen: Seen) -> Row:
    told = f"{error} The {read:,} records before that are used." if read and error.reason == "damaged_file" else str(
        error)
    _note_problem(source, told, seen)
    seen.n_unfit += 1
    if len(seen.unfit) < SHOWN:
        seen.unfit.append(str(error))
    return Row(0, problem=error.reason, detail=told)


def _check_encoding(source: FileSource, name: str, n: int, not_utf8: int, seen: Seen) -> None:
    """Say it where records are lost for the file's encoding.

    Raises:
        InputError: they are many, and the source does not say that the file is UTF-8.
    """
    seen.n_records += n
    seen.not_utf8 += not_utf8
    if not not_utf8:
        return
    lost = f"{name}: {not_utf8:,} of {n:,} records are not {source.encoding or 'UTF-8'}"
    if source.encoding is None and is_other_encoding(not_utf8, n, among_others=True):
        raise _other_encoding(lost)
    advice = "" if source.encoding else (" If it is Windows-1252, as Excel saves it, set encoding of its source to "
                                         "windows-1252.")
    if len(seen.encodings) < SHOWN:
        seen.encodings.append(f"{lost}; they are passed over.{advice}")


def _other_encoding(lost: str) -> InputError:
    return InputError(
        f"{lost}, too many for an accident. If this was saved in Windows-1252 or Latin-1, as Excel does, set "
        "'encoding: windows-1252' of its source (what is UTF-8 in it is still read as that). To go on without "
        "these records, set 'encoding: utf-8': they are then counted, listed and passed over.")


def _columns(source: Source) -> tuple[Columns, str]:
    """Return the columns to read, and the domain where it is the same for every text."""
    domain = presets.domain(source)
    encoding = (source.encoding or "utf-8") if isinstance(source, FileSource) else "utf-8"
    if not domain.startswith(_DOMAIN_COLUMN):
        return Columns(presets.text_column(source), encoding=encoding), domain
    if source.kind == "text":
        raise InputError(f"The text file {source.path} has no columns, so its domain cannot be '{domain}'. "
                         "Give the domain's name.")
    return Columns(presets.text_column(source), domain.removeprefix(_DOMAIN_COLUMN), encoding=encoding), ""


def _domain(value: Any) -> str:
    text = "" if value is None or isinstance(value, (dict, list)) else " ".join(printable(str(value), 100).split())
    return text or _UNKNOWN_DOMAIN
