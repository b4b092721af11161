"""Where the first line of an answer ends, when reasoning and blank lines before it do not count."""

from distill.parsing import reasoning


def first_line_end(text: str) -> int | None:
    """Return the index of the newline that ends the first line with something on it, or None while there is none.

    Reasoning (:mod:`distill.parsing.reasoning`) counts as nothing, ended or not, and so does white space.
    """
    answer = reasoning.split(text).answer
    start = text.rfind(answer)
    if not answer.strip() or start < 0:
        return None
    end = text.find("\n", start + len(answer) - len(answer.lstrip()))
    return None if end < 0 else end
