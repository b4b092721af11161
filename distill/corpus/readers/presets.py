"""Column and domain of well-known data sets, so that a config need not spell them out."""

from dataclasses import dataclass

from distill.config.schema import SourceBase

_DEFAULT_COLUMN = "text"
_DEFAULT_DOMAIN = "general"


@dataclass(frozen=True)
class Preset:
    """Which column holds the text, and what the texts are about."""

    text_column: str
    domain: str


PRESETS = {
    "imdb": Preset("review", "film"),
    "yelp": Preset("text", "restaurant"),
    "amazon": Preset("reviewText", "product"),
    "twitter": Preset("text", "tweet"),
}


def text_column(source: SourceBase) -> str:
    """Return the column that holds the text: the source's own word, else its preset's, else 'text'."""
    if source.text_column:
        return source.text_column
    return PRESETS[source.preset].text_column if source.preset else _DEFAULT_COLUMN


def domain(source: SourceBase) -> str:
    """Return the domain, or 'column:NAME': the source's own word, else its preset's, else 'general'."""
    if source.domain:
        return source.domain
    return PRESETS[source.preset].domain if source.preset else _DEFAULT_DOMAIN


def masks_personal(source: SourceBase) -> bool:
    """Say whether personal data are masked: the source's own word, else where its texts are tweets."""
    if source.mask_personal is not None:
        return source.mask_personal
    return source.preset == "twitter" or domain(source) == PRESETS["twitter"].domain
