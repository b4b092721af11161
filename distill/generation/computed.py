"""What a stage's answers are computed with: the number format that ``auto`` stands for, decided once, and the devices.

It decides nothing of whether work is done: on a machine without the devices, finished work is the same work.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config.schema import TeacherEngine
from distill.engines import dtype_and_device, resolve_dtype
from distill.errors import InputError
from distill.run.hashing import fingerprint
from distill.run.storage import read_json, write_json
from distill.runtime.leases import Lease

FILE = "computed.json"


def computed_in(folder: Path, settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what a stage's answers were computed with, each ``dtype`` and ``device``, the first one first."""
    try:
        noted = read_json(folder / FILE)
        return list(noted["computed"]) if noted["made_for"] == fingerprint(settings) else []
    except (InputError, KeyError, TypeError):  # none, or a damaged one: it is decided anew
        return []


def resolve_dtype_in(folder: Path, engine: TeacherEngine, settings: Mapping[str, Any], lease: Lease) -> TeacherEngine:
    """Return a stage's engine with its number format: that of the answers there are, where these devices compute it."""
    if engine.capabilities.remote:
        return engine
    noted = computed_in(folder, settings)
    engine = resolve_dtype(engine, noted[0]["dtype"] if noted else None, lease.devices)
    now = dtype_and_device(engine, lease.devices)
    if now not in noted:
        write_json(folder / FILE, {"made_for": fingerprint(settings), "computed": [*noted, now]})
    return engine
