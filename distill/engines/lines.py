"""Where the first line of an answer ends, when reasoning and blank lines before it do not count."""

import re

REASONING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def line_end(text: str) -> int | None:
    """Return the index of the newline that ends the first line with something on it, or None while there is none.

    ``<think>…</think>`` counts as nothing, closed or not, and so does white space.
    """
    position = 0
    while position < len(text):
        if reasoning := REASONING.match(text, position):
            position = reasoning.end()
        elif text[position].isspace():
            position += 1
        else:
            end = text.find("\n", position)
            return None if end < 0 else end
    return None
