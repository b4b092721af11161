"""Answers in which the teacher declines to answer."""

import re

from distill.config.sections.filters import RefusalFilter
from distill.run.records import Prompt, Response

_BEGINNING = 400  # characters of an answer in which a refusal begins
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ´`", "'"))

_SORRY = (r"(?:(?:i(?:'m| am) (?:\w+ ){0,2}?sorry|sorry|(?:my |i offer my )?(?:sincere )?apologies|"
          r"i (?:\w+ )?apologi[sz]e|unfortunately|regrettably)\b[^.!?]{0,40}?[.,;:!–—-]* (?:but |however,? )?)")
_MACHINE = (r"(?:as|being|i(?:'m| am)(?: just| only| merely| simply)?) an? (?:\w+ ){0,2}?"
            r"(?:ai|language model|chatbot)(?: (?:language |text-based )?(?:model|assistant|system|chatbot|program))?"
            r"(?= ?[,.;:!]| (?:i|and|that|which|designed|trained|created|developed|programmed)\b)")
_UNABLE = (r"i(?: really| simply| just| do)? ?(?:can ?not|can't|won't|will not|would not|wouldn't|(?:'m|am) unable to|"
           r"(?:'m|am) not able to|(?:'m|am) not (?:going|allowed|permitted|programmed|designed) to|"
           r"must (?:\w+ )?decline to|have to (?:\w+ )?decline to|(?:must |have to )?refuse to|"
           r"prefer not to|'d prefer not to|'d rather not)")
_ASKED = r"(?:requests?|instructions?|prompts?|questions?|quer(?:y|ies)|tasks?|demands?)"
_WANTED = (r"(?:content|analys[ie]s|rewrit\w+|rephras\w+|texts?|responses?|information|assistance|guidance|output|"
           r"interpretations?|explanations?|conversations?|discussions?|material|answers?|versions?|sentiment labels?)")
_SUBJECT = (r"(?:texts?|sentences?|reviews?|tweets?|content|statements?|posts?|messages?|passages?|inputs?|requests?|"
            r"sentiments?|emotions?|this for you|that for you)")
_TASK = "|".join([
    r"(?:help|assist)(?: you)?(?: (?:with|in|on|by) \w+|(?= ?[.!])|$)",
    r"(?:fulfil+|comply|satisfy|accommodate|honou?r)\b[^.!?]{0,30}?\b(?:that|this|it|" + _ASKED + r")\b",
    r"(?:process|complete|follow|carry out|answer|respond to|perform|handle|proceed with|continue with)\b[^.!?]{0,30}?"
    r"\b" + _ASKED + r"\b",
    r"(?:provide|create|generate|produce|write|offer|supply|share|give you|engage in|participate in|discuss)\b"
    r"[^.!?]{0,60}?\b" + _WANTED + r"\b",
    r"(?:rewrite|rephrase|paraphrase|reword|analy[sz]e|classify|label|identify|determine|interpret|translate|evaluate|"
    r"assess)\b[^.!?]{0,50}?\b" + _SUBJECT + r"\b",
])
_UNEASY = (r"i(?:'m| am| do| don't| do not)?(?: not)? (?:feel )?comfortable (?:with )?(?:providing|creating|generating|"
           r"writing|rewriting|rephrasing|analy[sz]ing|discussing|engaging|responding|answering|assisting|helping)\b")
_UNFIT = (r"it(?:'s| is| would be) (?:not|in)(?: )?(?:appropriate|possible|ethical)(?: for me)? to (?:" + _TASK + ")")
_DECLINES = re.compile(rf"{_SORRY}?(?:{_MACHINE}|{_UNABLE} (?:{_TASK})|{_UNEASY}|{_UNFIT})")


class Refusal:
    """Answers that begin by declining: "I'm sorry, but I can't help with that", "As an AI language model, I …".

    Only the beginning counts, and only a refusal of what was asked: not that a reviewer cannot recommend a shop,
    and nothing where the prompt itself holds such words (then an analysis quotes them and a rewriting keeps them).
    An answer that begins with a quotation mark quotes. The phrases are English; ``phrases`` of the config adds others.
    """

    reason = "refusal"

    def __init__(self, config: RefusalFilter) -> None:
        """Use ``config.phrases`` beside our own."""
        self._phrases = tuple(phrase for item in config.phrases if (phrase := _plain(item)))

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        said = _plain(response.output[:_BEGINNING]).lstrip(" *_#>-")
        phrase = next((item for item in self._phrases if said.startswith(item)), "")
        if phrase:
            return f"begins '{phrase[:100]}'" if phrase not in _plain(prompt.prompt) else None
        match = _DECLINES.match(said)
        if match is None or _DECLINES.search(_plain(prompt.prompt)):
            return None
        return f"begins '{match[0][:100]}'"


def _plain(text: str) -> str:
    """Return a text in lower case, with straight apostrophes and single spaces."""
    return " ".join(text.translate(_APOSTROPHES).casefold().split())
