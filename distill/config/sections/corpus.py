"""The part ``corpus``: texts, and what is done to them."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distill.config.address import Address, Place
from distill.config.sections.base import HubDataset, PathMark, Processes, Section, runtime_field
from distill.config.sections.plugin import Plugin


class SourceBase(Section):
    """Where texts come from. ``preset`` fills in column and domain for a well-known data set."""

    preset: Literal["imdb", "yelp", "amazon", "twitter"] | None = Field(
        None, description="a well-known data set whose columns are filled in")
    text_column: str | None = Field(None, description="column that holds the text; default: the preset's, else 'text'")
    domain: str | None = Field(None, description="what the texts are about, or a column that says so as 'column:NAME'")
    limit: int | None = Field(None, ge=1, description="at most this many texts, chosen by hash; default: all")
    mask_personal: bool | None = Field(
        None, description="replace e-mail addresses, phone numbers and user names; default: for tweets only")
    on_error: Literal["skip", "fail"] = Field(
        "skip", description="a record that cannot be read is counted and passed over, or ends the run")


class FilesBase(SourceBase):
    """Files: ``path`` is a file, a glob pattern, or a URL of either, such as "s3://bucket/*.jsonl.zst".

    "${NAME}" is an environment variable, "shipped:" our data. Compressed files (gz, bz2, xz, zst) and archives (tar,
    zip) of files of the kind are read as they are.
    """

    path: Annotated[Place, PathMark("always")] = Field(description="file, pattern or URL")
    members: str | None = Field(
        None, description="pattern such as '*review*' for the members of archives; default: those of the kind's ending")


class FileSource(FilesBase):
    """Files of a format that we read."""

    kind: Literal["csv", "jsonl", "parquet", "text"]
    encoding: Literal["utf-8", "utf-16", "windows-1252"] | None = Field(
        None, description="of text files; windows-1252: of what is no UTF-8; default: UTF-8, and an error where that "
                          "would cost many records")


class HubSource(SourceBase, HubDataset):
    """A data set on the Hugging Face Hub, streamed."""

    kind: Literal["hub"]


class PluginSource(FilesBase, Plugin):
    """Files of another format, read by a function of the user's own (:mod:`distill.corpus.readers.plugin`)."""

    kind: Literal["plugin"]


Source = Annotated[FileSource | HubSource | PluginSource, Field(discriminator="kind")]


class Clean(Section):
    """Bounds and repairs (ours)."""

    min_chars: int = Field(20, ge=1, description="shorter texts are dropped")
    max_chars: int = Field(4000, ge=1, description="longer texts are dropped")
    strip_html: bool = Field(True, description="take tags out and undo entities")
    languages: list[str] = Field([], description="keep texts in these languages only, such as en; default: all")


class Decontaminate(Section):
    """Texts that stand in the benchmark leave the corpus (Section 4.1). The distance is ours."""

    enabled: bool = Field(True, description="whether texts of the benchmark leave the corpus")
    max_distance: int = Field(3, ge=0, le=8, description="simhash bits that may differ")


class Dedup(Section):
    """Near-duplicates by simhash (Section 4.1). The distance is ours."""

    enabled: bool = Field(True, description="whether near-duplicates leave the corpus")
    max_distance: int = Field(3, ge=0, le=8, description="simhash bits that may differ")
    keep: Literal["first", "longest"] = Field("first", description="which one stays: the first by hash, or the longest")
    group: Literal["greedy", "clusters"] = Field(
        "greedy", description="clusters: also what is near only to a text that went")


class Corpus(Section):
    """User-generated texts, and what is done to them before a teacher sees them."""

    sources: list[Source] = Field(min_length=1)
    clean: Clean = Clean()
    decontaminate: Decontaminate = Decontaminate()
    dedup: Dedup = Dedup()
    weights: dict[str, Annotated[float, Field(ge=1e-6, le=1e6)]] = Field(
        {}, description="share of each domain; the scarcest decides how many texts there are; domains not named go")
    limit: int | None = Field(None, ge=1, description="at most this many texts in the end, chosen by hash")
    workers: Processes | None = runtime_field(None, description="processes that read large files; default: one a core")

    @model_validator(mode="after")
    def _every_address_is_another(self) -> Self:
        seen: dict[Address, Address] = {}
        for source in self.sources:
            address = getattr(source, "path", None)
            if not isinstance(address, Address):
                continue
            if seen.setdefault(address, address).is_secret | address.is_secret and seen[address] is not address:
                raise ValueError(f"sources names {address} twice: two addresses that differ in nothing but a user, a "
                                 "password, a signature or a token are taken for one")
        return self
