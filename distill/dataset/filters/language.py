"""Answers in a language that nobody asked for."""

import re
from collections.abc import Collection

from distill.config.sections.filters import WrongLanguageFilter
from distill.corpus.language import check_languages, language_probabilities
from distill.dataset.filters.rewriting import is_rewriting, rewritten_version, user_text
from distill.run.records import Prompt, Response

_POSSIBLE = 0.05  # a short text may be in any language at least so probable
_CHARS = 800  # more would cost time and say no more
_TAGS = re.compile(r"(?:https?://|www\.|[#@＃＠])\S+")  # an English tweet may have Japanese tags


class WrongLanguage:
    """KnowDist answers that are surely in a language which neither the prompt nor the text calls for.

    An analysis may be in one of ``languages`` (that of the prompts) or in the text's. A rewritten version must be in
    the text's, where it is known which part of the answer it is and which language the text is in. Answers and texts
    of fewer than ``min_chars`` characters (hashtags, user names and addresses not counted) tell too little; "surely" is
    a probability of at least ``confidence``.
    """

    reason = "wrong_language"

    def __init__(self, config: WrongLanguageFilter) -> None:
        """Use the thresholds of ``config``.

        Raises:
            InputError: a language of ``config.languages`` cannot be told.
        """
        check_languages(config.languages, "filters.wrong_language.languages")
        self._config = config

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        if prompt.family != "knowdist":
            return None
        answer = self._language(response.output)
        if answer and answer not in self._config.languages:
            possible = self._possible(user_text(prompt))
            if answer not in possible:
                return f"in '{answer}', not in {_listed({*self._config.languages, *possible})}"
        rewritten = rewritten_version(response.output) if is_rewriting(prompt) else None
        language = self._language(rewritten or "")
        if language:
            text = self._language(user_text(prompt))
            if text and language != text:
                return f"the rewritten version is in '{language}', the text in '{text}'"
        return None

    def _language(self, text: str) -> str:
        """Return the language a text is surely in, else nothing."""
        plain = _plain(text)
        if len(plain) < self._config.min_chars:
            return ""
        best, probability = next(iter(language_probabilities(plain).items()))
        return best if probability >= self._config.confidence else ""

    def _possible(self, text: str) -> Collection[str]:
        sure = self._language(text)
        if sure:
            return [sure]
        return [name for name, probability in language_probabilities(_plain(text)).items() if probability >= _POSSIBLE]


def _plain(text: str) -> str:
    """Return the beginning of a text, without its tags, user names and addresses."""
    return " ".join(_TAGS.sub(" ", text[:2 * _CHARS]).split())[:_CHARS]


def _listed(languages: Collection[str]) -> str:
    return " or ".join(f"'{name}'" for name in sorted(languages))
