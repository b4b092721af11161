"""What an engine can do is asked of its settings; which engine it is, nobody outside the engines asks."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.config.sections import engines
from distill.engines.registry import ENGINES

KINDS = {*ENGINES, "plugin"}
SETTINGS = {name for name, value in vars(engines).items()
            if isinstance(value, type) and issubclass(value, engines.EngineSettings)}
ROOT = Path(__file__).parents[2]
WHERE_KINDS_ARE_KNOWN = ("distill/engines/", "distill/config/sections/engines.py")


def questions(code: str) -> Iterator[int]:
    """Yield the lines in which code asks which engine it has: compares with a kind, or with a class of settings."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            asked = [node.value]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
            asked = node.args[1:]
        else:
            continue
        parts = [part for item in asked for part in ast.walk(item)]
        if any(isinstance(part, ast.Constant) and part.value in KINDS for part in parts) or (
                isinstance(node, ast.Call) and any(getattr(part, "id", getattr(part, "attr", "")) in SETTINGS
                                                   for part in parts)):
            yield node.lineno


@pytest.mark.parametrize("asks", [
    'engine.kind == "openai"', '"vllm" != config.engine.kind', 'engine.kind in ("vllm", "transformers")',
    "isinstance(engine, OpenAIEngine)", "isinstance(engine, (schema.VllmEngine, int))",
    'match engine.kind:\n    case "plugin":\n        pass'])
def test_a_question_for_the_kind_is_seen(asks):
    assert list(questions(asks))


def test_nobody_outside_the_engines_asks_which_engine_it_is():
    files = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
             for package in ("distill", "sentibench", "flows") for path in (ROOT / package).rglob("*.py")}
    assert len(files) > 100
    suspects = {name: code for name, code in files.items() if any(word in code for word in KINDS | SETTINGS)}
    assert [f"{name}:{line}" for name, code in suspects.items() if not name.startswith(WHERE_KINDS_ARE_KNOWN)
            for line in questions(code)] == []
