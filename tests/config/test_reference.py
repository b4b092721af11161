"""The page of every key is what the schema says, and says of each what it means."""

from distill.config.reference import reference, undescribed
from tests.support.flow import ROOT


def test_the_page_of_every_key_is_as_the_schema_is() -> None:
    assert (ROOT / "docs/config.md").read_text(encoding="utf-8") == reference(), (
        "make it anew: python -m distill.config.reference > docs/config.md")


def test_every_key_says_what_it_means() -> None:
    assert undescribed() == []
