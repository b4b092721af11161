"""Tables in Markdown."""

from collections.abc import Iterable


def markdown_table(head: list[str], rows: Iterable[list[str]], text_columns: int) -> list[str]:
    """Return the lines of a table; all but the first ``text_columns`` columns are aligned to the right."""
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---" if index < text_columns else "---:" for index in range(len(head))]
    return [line(head), f"|{'|'.join(rule)}|", *(line(row) for row in rows)]
