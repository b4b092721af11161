"""Compiled kernels for a copy of the project: numba knows them by the path and the time of their source files."""

import os
import shutil
from pathlib import Path

from distill.corpus import kernels


def share_machine_code(project: Path, cache: Path) -> dict[str, str]:
    """Have a copy of the project use what is compiled here, from a cache of its own; return the environment for it.

    Compiling all of them takes half a minute of one core.
    """
    from numba.core.caching import UserProvidedCacheLocator

    ours, theirs = Path(kernels.__file__).parent, project / "distill/corpus/kernels"
    compiled, copied = (place / UserProvidedCacheLocator.get_suitable_cache_subpath(str(sources / "common.py"))
                        for place, sources in ((Path(os.environ["NUMBA_CACHE_DIR"]), ours), (cache, theirs)))
    if compiled.exists():
        shutil.copytree(compiled, copied)
    for source in ours.glob("*.py"):
        shutil.copystat(source, theirs / source.name)
    return {"NUMBA_CACHE_DIR": str(cache)}
