"""What a reasoning model thinks before it answers, told from the answer: the one place where it is taken off.

Known forms: ``<think>…</think>`` and the like (``thinking``, ``thought``, ``reasoning``, ``[THINK]``); the closing mark
alone, where the opening one stood in the prompt; the opening mark alone, where the answer was cut off before it began;
the channels of gpt-oss (``<|channel|>analysis…<|channel|>final``), also as they read once their special tokens are
gone (``analysis…assistantfinal…``).
"""

import re
from dataclasses import dataclass

_NAME = r"(?:seed:)?(?:think|thinking|thoughts?|reasoning)"
_OPEN = rf"(?:<{_NAME}>|\[THINK\]|◁think▷)"
_CLOSE = rf"(?:</{_NAME}>|\[/THINK\]|◁/think▷)"
_MARK = re.compile(rf"(?P<open>{_OPEN})|{_CLOSE}", re.IGNORECASE)
_AT_END = re.compile(rf"({_OPEN})\s*\Z", re.IGNORECASE)
_CHANNEL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>\s*+(\w++)[^<]*+<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>")
_BARE_CHANNEL = re.compile(r"\s*+analysis(?=[A-Z]|.*assistantfinal)", re.DOTALL)
_BARE_FINAL = "assistantfinal"

TRUNCATED = "truncated_reasoning"
"""Why there is no answer where the reasoning did not end."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote: the ``answer`` alone; whether it reasoned, and whether that was cut off before an answer."""

    answer: str
    reasoned: bool = False
    cut_off: bool = False


def split(text: str) -> Answer:
    """Return the answer in what a model wrote, without its reasoning; it is empty where the reasoning does not end."""
    channels = list(_CHANNEL.finditer(text))
    if channels and (not text[:channels[0].start()].strip() or channels[-1][1] == "final"):
        last = channels[-1]
        if last[1] != "final":
            return Answer("", True, True)
        answer = _CHANNEL_END.split(text[last.end():], maxsplit=1)[0]
        return Answer(answer, len(channels) > 1)
    if _BARE_CHANNEL.match(text):
        _, final, answer = text.rpartition(_BARE_FINAL)
        return Answer(answer if final else "", True, not final)
    return _without_blocks(text)


def _without_blocks(text: str) -> Answer:
    """Take off what stands between marks, before a closing mark alone, and after an opening one that begins a line."""
    kept: list[str] = []
    position, opening = 0, None
    for mark in _MARK.finditer(text):
        if mark["open"]:
            opening = mark if opening is None else opening
            continue
        if opening is None:
            kept.clear()
        else:
            kept.append(text[position:opening.start()])
        position, opening = mark.end(), None
    if opening is not None:
        before = text[position:opening.start()]
        answer = "".join([*kept, before])
        if not answer.strip() or before.rstrip(" \t").endswith("\n"):
            return Answer(answer, True) if answer.strip() else Answer("", True, True)
    answer = "".join([*kept, text[position:]])
    return Answer(answer, position > 0)


def marked(thoughts: str, answer: str) -> str:
    """Return one text of both, where a server tells them apart; without an answer, the reasoning did not end in one."""
    return f"<think>{thoughts}</think>{answer}" if answer.strip() else f"<think>{thoughts}"


def begins_within(text: str) -> str:
    """Return the mark with which a prompt opens the reasoning that the model goes on with; empty where it does not.

    Chat templates of some reasoning models end with it, so that the answer shows the closing mark alone.
    """
    found = _AT_END.search(text)
    return found[1] if found else ""
