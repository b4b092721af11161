"""A report counts a task as seen where its kind was distilled."""

from pathlib import Path

import pytest

from distill.config.schema import Config
from distill.prompting.files import FOLDER
from distill.prompting.kept import keep_prompt_files
from flows.cli.task_examples import files_of
from flows.report.seen import seen_tasks
from sentibench.registry import all_tasks
from sentibench.summary import group_members

PAPER = {task.name for task in all_tasks().values() if task.seen}


@pytest.mark.parametrize(("fields", "weight", "more"), [
    (None, 1, {"own", "asqp"}), ("[aspect, polarity]", 1, {"own", "atsa"}), ("[topic, polarity]", 1, {"own"}),
    (None, 0, set())])
def test_tuple_tasks_with_the_fields_of_a_distilled_one_are_seen(
        fields: str | None, weight: int, more: set[str], tmp_path: Path) -> None:
    for name, text in files_of("own", "tuples").items():
        if fields and name.endswith(".yaml"):
            lines = (line for line in text.splitlines() if not line.startswith(("fields", "values", "spans", "  cat")))
            text = "\n".join(line for line in lines if not line.startswith("  pol")) + f"\nfields: {fields}\n"
        (tmp_path / name).write_text(text if not fields or name.endswith(".yaml") else "\n".join(
            f'{{"text": "{at}", "tuples": [["a", "b"]]}}' for at in range(4)))
    config = Config.model_validate({
        "name": "x", "teacher": {"model": {"name": "random-tiny"}, "engine": {"kind": "transformers"}},
        "student": {"kind": "pretrained", "model": {"name": "random-tiny"}},
        "corpus": {"sources": [{"kind": "text", "path": "x.txt"}]},
        "prompts": {"icldist": {"tasks": [str(tmp_path / "own.yaml")], "weights": {"own": weight}}}})
    (tmp_path / FOLDER).mkdir()
    keep_prompt_files(tmp_path / FOLDER, config.prompts)
    seen = seen_tasks(tmp_path, config)
    assert seen - {"sentiment", "emotion"} == PAPER | more
    assert set(group_members("unseen", seen)) == set(group_members("unseen")) - more
