"""YAML from unknown hands: one value for each key; no aliases without end, no depth, no number that costs minutes."""

import importlib.util
from typing import Any

import yaml

from distill.errors import InputError

MOST_BYTES = 1 << 20
_MOST_NODES = 200_000
_DEEPEST = 64
_LONGEST_NUMBER = 400


def as_pyyaml_ships() -> tuple[dict[str, list[Any]], dict[Any, Any]]:
    """Return what PyYAML takes for a number, a date, ... by first character, and how it makes them by tag.

    Both are tables that all loaders of a process share: some libraries take dates out of one or the other.
    """
    resolver, constructor = (_anew(f"yaml.{name}") for name in ("resolver", "constructor"))
    return resolver.Resolver.yaml_implicit_resolvers, constructor.SafeConstructor.yaml_constructors


def _anew(module: str) -> Any:
    """Return a module beside the one that others have imported, and may have changed."""
    spec = importlib.util.find_spec(module)
    assert spec and spec.loader
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    return anew


class _Loader(yaml.SafeLoader):
    """SafeLoader as it ships, whatever was changed in it since."""

    yaml_implicit_resolvers, yaml_constructors = as_pyyaml_ships()


class _RefusedError(Exception):
    def __init__(self, problem: str, node: yaml.Node) -> None:
        super().__init__(problem)
        self.problem, self.problem_mark = problem, node.start_mark


def parse_yaml(text: str, origin: str) -> Any:
    """Return what a YAML document holds. ``origin`` is named in errors, as in "The config x.yaml".

    Raises:
        InputError: it is no YAML; a key stands twice in a mapping; aliases hold themselves, or unfold to more than
            200,000 values; it is nested more than 64 deep. The message names the line.
    """
    try:
        loader = _Loader(text)  # looks at the characters at once
    except yaml.YAMLError as error:
        raise InputError(f"{origin} is not valid YAML: {' '.join(str(error).split())}.") from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _unfolded(node, 0, {})
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, _RefusedError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = "it is nested too deeply" if isinstance(error, RecursionError) else getattr(error, "problem", error)
        raise InputError(f"{origin} is not valid YAML{where}: {what}.") from error
    finally:
        loader.dispose()


def _unfolded(node: yaml.Node, depth: int, known: dict[int, int]) -> int:
    """Return how many values a node has once its aliases are written out; 0 in ``known`` is one that is being counted.

    Raises:
        _RefusedError: they are too many, or too deep, or have no end; or a key stands twice.
    """
    if depth > _DEEPEST:
        raise _RefusedError(f"it is nested more than {_DEEPEST} deep", node)
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith((":int", ":float")) and len(node.value) > _LONGEST_NUMBER:
            raise _RefusedError(f"a number has {len(node.value):,} digits", node)
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise _RefusedError("an alias stands inside what it stands for", node)
        return known[id(node)]
    known[id(node)] = 0
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        _refuse_doubled(node)
        parts = [part for pair in node.value for part in pair]
    count = 1
    for part in parts:
        count += _unfolded(part, depth + 1, known)
        if count > _MOST_NODES:
            raise _RefusedError(f"its aliases unfold to more than {_MOST_NODES:,} values", node)
    known[id(node)] = count
    return count


def _refuse_doubled(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if key.value in seen:
            raise _RefusedError(f"the key '{key.value}' stands here and in line {seen[key.value]}; keep one of them",
                                key)
        seen[key.value] = key.start_mark.line + 1
