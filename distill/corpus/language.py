"""Which language a text is in, by py3langid's model of character n-grams (97 languages; shipped with the package)."""

from functools import cache
from typing import Any

from distill.errors import InputError


def check_languages(languages: list[str], key: str = "corpus.clean.languages") -> None:
    """Check language codes (ISO 639-1) that stand in the config under ``key``.

    Raises:
        InputError: the model does not know one.
    """
    known = {str(label) for label in _identifier().labels}
    unknown = sorted(set(languages) - known)
    if unknown:
        raise InputError(f"{key}: '{unknown[0]}' is no language the filter knows. It knows: "
                         f"{', '.join(sorted(known))}.")


def language_of(text: str) -> str:
    """Return the code of the language a text is most probably in. Of a few words it says little."""
    return str(_identifier().classify(text)[0])


def language_probabilities(text: str) -> dict[str, float]:
    """Return the probability of each language that a text may be in, the most probable first.

    They are calibrated for any length: of a few words, every language is somewhat probable.
    """
    return dict(_identifier(probabilities=True).rank(text))


@cache
def _identifier(probabilities: bool = False) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=probabilities)
