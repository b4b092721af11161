"""A table of the page, whatever form it is drawn in, and how numbers stand in it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """Rows of cells under a head; ``kinds`` says of each row what it is, ``spans`` how many columns have a heading."""

    title: str
    head: list[str]
    rows: list[list[str]]
    about: str = ""
    text_columns: int = 1
    kinds: list[str] = field(default_factory=list)
    spans: list[tuple[str, int]] = field(default_factory=list)
    folded: bool = False

    def kind(self, place: int) -> str:
        """Return what a row is."""
        return self.kinds[place] if self.kinds else ""


def signed(value: float) -> str:
    """Return a difference in points of percent, with its sign."""
    return f"{round(100 * value, 1) + 0.0:+.1f}".replace("-", "−")  # + 0.0: of −0.04 no minus is left
