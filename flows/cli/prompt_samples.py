"""``distill prompts --show``: a few of the prompts as the teacher gets them, printed for people to read."""

from collections.abc import Iterable

from rich.console import Console, Group
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from distill.run.records import Prompt
from flows.cli.show import printable


def print_samples(prompts: Iterable[Prompt], console: Console) -> None:
    """Print each prompt in a frame of its own, under what is known of it; nothing in a prompt is markup."""
    for prompt in prompts:
        known = {"perspective": prompt.perspective, "strategy": prompt.strategy, "labels": ", ".join(prompt.labels),
                 "demonstrations": "" if prompt.family == "knowdist" else str(prompt.n_demonstrations),
                 "characters": f"{len(prompt.prompt):,}", "seed": str(prompt.seed), "id": prompt.id,
                 "text": prompt.text_id}
        about = Text()
        for name, value in known.items():
            if value:
                about.append(f"{name}=", style="dim").append(f"{printable(value)}   ")
        title = Text(f"{prompt.family} {printable(prompt.kind)}", style="bold")
        console.print(Panel(Group(about, Rule(style="dim"), Text(printable(prompt.prompt))), title=title,
                            title_align="left"))
        console.print()
