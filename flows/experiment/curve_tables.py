"""What page and command say of a learning curve: what its amounts took, and what the next doubling would bring."""

from collections.abc import Mapping, Sequence
from typing import Any

from flows.experiment.table import Table, signed
from flows.forecast import duration, money
from sentibench.summary import GROUPS
from sentibench.tables import heading

_FLAT = 1e-9


def curve_tables(curves: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return for each learning curve what its amounts took, and what the next doubling is expected to bring."""
    return [table for curve in curves for table in (_amounts(curve), _gains(curve))]


def _amounts(curve: Mapping[str, Any]) -> Table:
    amounts = curve["amounts"]
    priced = any(one["money"] is not None for one in amounts)
    means = [name for name in ("BSA", "MSA", "FSA", "all") if name in curve["columns"]] or list(curve["columns"])[:4]
    head = ["variant", "rows", "teacher", "training", *(["money"] if priced else []), *map(heading, means)]
    rows = []
    for place, one in enumerate(amounts):
        points = [curve["columns"][name]["points"][place] for name in means]
        rows.append([one["variant"], f"{one['rows']:,}", duration(one["teacher_seconds"]),
                     duration(one["training_seconds"]), *([money(one["money"] or 0)] if priced else []),
                     *(f"{100 * point['value']:.1f} [{', '.join(f'{100 * end:.1f}' for end in point['interval_95'])}]"
                       for point in points)])
    return Table(f"Rows of {curve['name']}", head, rows,
                 "What the rows that vary took by themselves, at the share of the whole; scores with 95% intervals.")


def _gains(curve: Mapping[str, Any]) -> Table:
    last, columns = curve["amounts"][-1], curve["columns"]
    more = [f"{last['rows']:,} rows more", f"{duration(last['teacher_seconds'])} of the teacher",
            f"{duration(last['training_seconds'])} more of training"]
    if last["money"] is not None:
        more.append(f"{money(last['money'])} in money")
    tasks = sorted((name for name in columns if name not in GROUPS),
                   key=lambda name: -columns[name]["next_doubling"]["value"])
    rows, kinds = [], []
    for name in (*(name for name in columns if name in GROUPS), *tasks):
        low, high = columns[name]["next_doubling"]["interval_95"]
        rows.append([heading(name), f"{100 * columns[name]['points'][-1]['value']:.1f}",
                     f"{signed(columns[name]['next_doubling']['value'])} [{signed(low)}, {signed(high)}]",
                     _formula(columns[name]["parameters"])])
        kinds.append("sum" if name == "all" else "variant")
    return Table(f"The next doubling of {curve['name']}", ["", "now", "expected gain", "curve, n in rows"], rows,
                 f"It would take {', '.join(more)}. Tasks that gain most come first.", kinds=kinds)


def _formula(parameters: Mapping[str, float]) -> str:
    a, b, c = (parameters[name] for name in "abc")
    if abs(b) < _FLAT:
        return f"{100 * a:.1f}, flat"
    return f"{100 * a:.1f} {'−' if b >= 0 else '+'} {100 * abs(b):.3g} · n^(−{c:.2f})"
