"""How results were made: what must be the same in results that are averaged, and is named where two differ in it."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.stage import differences

_LABEL_METRIC = "macro_f1"
_OF_THE_MODEL = ("engine.model", "engine.tokenizer", "decoding.first_tokens_after_penalty",
                 "decoding.repetition_penalty")
"""Which model is served, with its tokenizer, and the repetition penalty that it ships: what is compared, no way."""


def provenance(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decided a result beside model, task and seed: protocol, limit, scorer, engine, how labels are told.

    The engine's version is left out: it is named in the result, and changes with every update.
    """
    engine = result.get("engine") or {}
    decoding = result.get("decoding") or {}
    dtype = (result.get("computed") or {}).get("dtype")  # what ``auto`` was
    labels = decoding.get("answers") if result["metric"] == _LABEL_METRIC else None
    return {"protocol": result["protocol"], "limit": result.get("limit"), "scorer": result.get("scorer"),
            "engine": {key: value for key, value in engine.items() if key != "version"},
            **({"labels": labels} if labels else {}),
            **({"dtype": dtype} if dtype else {})}


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what differs in the provenance of two results: the value of one and of the other, by key with dots.

    What is not known of one of them (it has no such key) does not differ.
    """
    shared = [key for key in one if key in other]
    found = differences({key: one[key] for key in shared}, {key: other[key] for key in shared})
    return {key: (before, after) for key, before, after in found}


def of_the_models(found: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """Return what of :func:`differing` is the models' own: which one is served, and what it ships."""
    return {key: pair for key, pair in found.items() if f"{key}.".startswith(tuple(f"{own}." for own in _OF_THE_MODEL))}


def in_words(found: Mapping[str, tuple[Any, Any]]) -> str:
    """Say in words what :func:`differing` found."""
    return "; ".join(f"{key} {_shown(key, before)} and {_shown(key, after)}" for key, (before, after) in found.items())


def different_ways(bench: Mapping[str, Any]) -> Iterator[str]:
    """Yield a note on each model of a report that was evaluated in another way than the first (results.json)."""
    first, *others = bench["models"]
    for other in others:
        found: dict[str, tuple[Any, Any]] = {}
        for task, made in bench["made"][other].items():
            found |= differing(bench["made"][first][task], made)
        found = {key: pair for key, pair in found.items() if key not in of_the_models(found)}
        if found:
            yield (f"'{first}' and '{other}' were evaluated in different ways (in this order: {in_words(found)}): a "
                   "difference between them need not be the models'.")


def refuse_mixture(folder: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Refuse results in one folder that were not made in the same way, as their mean would say nothing.

    Raises:
        InputError: weights, protocol, limit, scorer, engine, number format, or the way of labels differ.
    """
    known: dict[str, Any] = {}
    first: dict[str, str] = {}
    for result in results:
        name = f"{result['task']}.seed{result['seed']}"
        made = {"model": result["model"]["fingerprint"], **provenance(result)}
        if found := differing(known, made):
            key, values = next(iter(found.items()))
            both = " and ".join(sorted(_shown(key, value) for value in values))
            raise InputError(f"{folder} mixes results of the {key}s {both} (in "
                             f"{first[key.split('.')[0]]} and {name}), which must not be averaged. Keep them in "
                             "folders of their own.")
        first |= {key: name for key in made if key not in first}
        known |= made


def _shown(key: str, value: Any) -> str:
    return str(value) if value is not None else "all" if key == "limit" else "none"
