"""What a reasoning model thinks before it answers, told from the answer: the one place where it is taken off, or kept.

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
_ANY_MARK = re.compile(
    rf"{_CHANNEL.pattern}|{_MARK.pattern}|<\|(?:channel|message|end|return|call|start)\|>", re.IGNORECASE)

TRUNCATED = "truncated_reasoning"
"""Why there is no answer where the reasoning did not end."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote: the ``answer`` alone; whether it reasoned, and whether that was cut off before an answer.

    ``thoughts`` are what it thought before, where that ended; marks within it may be left.
    """

    answer: str
    reasoned: bool = False
    cut_off: bool = False
    thoughts: str = ""


def split(text: str) -> Answer:
    """Return the answer in what a model wrote, without its reasoning; it is empty where the reasoning does not end."""
    channels = list(_CHANNEL.finditer(text))
    if channels and (not text[:channels[0].start()].strip() or channels[-1][1] == "final"):
        last = channels[-1]
        if last[1] != "final":
            return Answer("", True, True)
        answer = _CHANNEL_END.split(text[last.end():], maxsplit=1)[0]
        return Answer(answer, len(channels) > 1, thoughts=text[:last.start()])
    if _BARE_CHANNEL.match(text):
        thoughts, final, answer = text.rpartition(_BARE_FINAL)
        return Answer(answer if final else "", True, not final, thoughts.lstrip().removeprefix("analysis"))
    return _without_blocks(text)


def _without_blocks(text: str) -> Answer:
    """Take off what stands between marks, before a closing mark alone, and after an opening one that begins a line."""
    kept: list[str] = []
    taken: list[tuple[int, int]] = []
    position, opening = 0, None
    for mark in _MARK.finditer(text):
        if mark["open"]:
            opening = mark if opening is None else opening
            continue
        if opening is None:
            kept.clear()
            taken[:] = [(0, mark.start())]
        else:
            kept.append(text[position:opening.start()])
            taken.append((opening.end(), mark.start()))
        position, opening = mark.end(), None
    thoughts = "\n".join(text[start:end] for start, end in taken)
    if opening is not None:
        before = text[position:opening.start()]
        answer = "".join([*kept, before])
        if not answer.strip() or before.rstrip(" \t").endswith("\n"):
            return Answer(answer, True, thoughts=thoughts) if answer.strip() else Answer("", True, True)
    answer = "".join([*kept, text[position:]])
    return Answer(answer, position > 0, thoughts=thoughts)


def with_reasoning(text: str, answer: str) -> str:
    """Return an ``answer`` behind what a model thought in ``text``, or the answer alone where it thought nothing.

    Whatever form that had, it gets one: a line ``<think>``, the thoughts, a line ``</think>`` and a blank one.
    :func:`split` takes it apart again (where marks in the answer would hinder that, it stays alone).
    """
    thoughts = _ANY_MARK.sub(" ", split(text).thoughts).strip()
    both = f"<think>\n{thoughts}\n</think>\n\n{answer}"
    return both if thoughts and split(both).answer.strip() == answer.strip() else answer


def marked(thoughts: str, answer: str) -> str:
    """Return one text of both, where a server tells them apart; without an answer, the reasoning did not end in one."""
    return f"<think>{thoughts}</think>{answer}" if answer.strip() else f"<think>{thoughts}"


def begins_within(text: str) -> str:
    """Return the mark with which a prompt opens the reasoning that the model goes on with; empty where it does not.

    Chat templates of some reasoning models end with it, so that the answer shows the closing mark alone.
    """
    found = _AT_END.search(text)
    return found[1] if found else ""
