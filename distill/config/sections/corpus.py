"""The part ``corpus``: texts, and what is done to them."""

from typing import Annotated, Literal

from pydantic import Field

from distill.config.sections.base import Section


class SourceBase(Section):
    """Where texts come from. ``preset`` fills in column and domain for a well-known data set."""

    preset: Literal["imdb", "yelp", "amazon", "twitter"] | None = None
    text_column: str | None = Field(None, description="column that holds the text; default: the preset's, else 'text'")
    domain: str | None = Field(None, description="what the texts are about, or a column that says so as 'column:NAME'")
    limit: int | None = Field(None, ge=1, description="at most this many texts, chosen by hash; default: all")


class FileSource(SourceBase):
    """Local files. ``path`` is a file or a glob pattern; "${NAME}" is an environment variable, "shipped:" our data."""

    kind: Literal["csv", "jsonl", "parquet", "text"]
    path: str


class HubSource(SourceBase):
    """A data set on the Hugging Face Hub, streamed."""

    kind: Literal["hub"]
    dataset: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None


Source = Annotated[FileSource | HubSource, Field(discriminator="kind")]


class Clean(Section):
    """Bounds and repairs (ours)."""

    min_chars: int = Field(20, ge=1)
    max_chars: int = Field(4000, ge=1)
    strip_html: bool = True


class Decontaminate(Section):
    """Texts that stand in the benchmark leave the corpus (Section 4.1). The distance is ours."""

    enabled: bool = True
    max_distance: int = Field(3, ge=0, le=8, description="simhash bits that may differ")


class Dedup(Section):
    """Near-duplicates by simhash (Section 4.1). The distance is ours."""

    enabled: bool = True
    max_distance: int = Field(3, ge=0, le=8, description="simhash bits that may differ")


class Corpus(Section):
    """User-generated texts, and what is done to them before a teacher sees them."""

    sources: list[Source] = Field(min_length=1)
    clean: Clean = Clean()
    decontaminate: Decontaminate = Decontaminate()
    dedup: Dedup = Dedup()
