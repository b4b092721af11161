"""The process that forks: multiprocessing's fork server, and what a fork of it does.

Used below :class:`multiprocessing.Process`, which would run the caller's main module in each fork (a script without
``if __name__ == "__main__"`` would begin anew), polls a process from whatever thread starts the next (so that an exit
status can get lost), and knows no process groups.
"""

import importlib
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import forkserver, process, resource_tracker, util
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from distill.errors import InputError, RunError, may_pass
from distill.run.storage import json_text
from distill.runtime import temporary
from distill.runtime.parent_death import die_with_parent

PRELOAD = ["distill.runtime.preload"]
_LONGEST_FOLDER = 78  # bytes, without what mkdtemp and multiprocessing add
_AT_IMPORT = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_", "SAFETENSORS_", "TORCH", "PYTORCH_", "USE_TORCH",
              "KMP_", "MKL_", "OMP_", "GOMP_", "OPENBLAS_", "NPY_", "LD_", "XDG_CACHE_HOME", "HOME")
"""How the environment variables begin that torch, transformers and what they use read while they are imported."""


def start() -> None:
    """Have a server running whose imports have read this environment; return without waiting for them."""
    with _choosing:
        _current().ensure_running()


def fork(preparation: Mapping[str, Any], request: str, ends: Sequence[Connection]) -> int:
    """Have the server fork and do what is asked (JSON); the fork gets the ``ends``: for its result, and its channel.

    ``preparation`` is multiprocessing's: ``sys_path``, and ``dir`` as its working directory. Return the end of a pipe
    from which :func:`multiprocessing.forkserver.read_signed` reads its process id, and its exit status (negative for a
    signal) once it has ended.

    Raises:
        OSError: the server has died. Where it dies later, reading raises EOFError.
    """
    with _choosing:
        server = _current()
        statuses, data = server.connect_to_new_process([end.fileno() for end in ends])
    try:
        with open(data, "wb") as stream:  # what multiprocessing.spawn reads in the fork
            pickle.dump(preparation, stream)
            pickle.dump(_Work(request, server.pid), stream)
    except OSError:
        os.close(statuses)
        raise
    return statuses


class _Server(forkserver.ForkServer):
    """multiprocessing's; ``imported_with``: the environment variables that its imports have read."""

    _forkserver_pid: int | None
    _stop: Callable[[], None]  # it ends with the last of its forks; this waits for that

    def __init__(self, imported_with: Mapping[str, str]) -> None:
        super().__init__()
        self.imported_with = imported_with
        self.set_forkserver_preload(PRELOAD)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._forkserver_pid or 0

    def ensure_running(self) -> None:
        """Start it, unless it runs: in a thread that lives as long as this process, because it dies with that."""
        _starter.submit(self._start).result()

    def _start(self) -> None:
        # Where its socket lies: an address takes no more than 107 bytes, and what the dead have left is removed.
        config = process.current_process()._config  # type: ignore[attr-defined]  # private
        if "tempdir" not in config:
            config["tempdir"] = _short_folder()
        flags = util._args_from_interpreter_flags  # type: ignore[attr-defined]  # private
        # A random.py where the user stands is not the one that is meant.
        util._args_from_interpreter_flags = lambda: [*flags(), "-P"]  # type: ignore[attr-defined]  # private
        try:
            super().ensure_running()
        finally:
            util._args_from_interpreter_flags = flags  # type: ignore[attr-defined]  # private


def _short_folder() -> str:
    name = temporary.prefix()
    long = len(os.fsencode(tempfile.gettempdir())) + len(name) > _LONGEST_FOLDER
    folder = tempfile.mkdtemp(prefix=name, dir="/tmp" if long else None)
    util.Finalize(None, shutil.rmtree, (folder, True), exitpriority=-100)
    return folder


def _current() -> _Server:
    """Return the server for this environment; one whose imports have read another ends with the last of its forks."""
    global _server
    wanted = {name: value for name, value in os.environ.items() if name.startswith(_AT_IMPORT)}
    if _server is None or _server.imported_with != wanted:
        if _server is not None:
            threading.Thread(target=_server._stop, daemon=True).start()
        _server = _Server(wanted)
    return _server


class _Work:
    """What :mod:`multiprocessing.spawn` calls in the fork."""

    def __init__(self, request: str, server: int) -> None:
        self.request, self.server = request, server

    def _bootstrap(self, _: int) -> NoReturn:
        os.setpgid(0, 0)
        die_with_parent(self.server)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Shared memory is given back with this process: by a tracker of its own, not by the one of who asked for it.
        resource_tracker._resource_tracker._fd = None  # type: ignore[attr-defined]  # private
        results, *channel = [Connection(end) for end in forkserver.get_inherited_fds() or ()]
        results.send_bytes(_call(json.loads(self.request), channel).encode())
        # Engines can leave threads and finalisers that hang; the result is out, so leave at once.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _call(request: dict[str, Any], channel: Sequence[Connection]) -> str:
    """Call what is asked for, and return what came of it in JSON."""
    os.environ.clear()
    os.environ.update(request["environment"])
    target = request["target"]
    module, _, name = target.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(request["spec"], *channel)
        # ASCII: an answer or error may quote half a character.
        return json_text({"value": value}, f"What {target} returns")
    except (Exception, SystemExit) as error:
        foreseen = isinstance(error, (InputError, RunError))
        kind = "input" if isinstance(error, InputError) else "died" if may_pass(error) else "run"
        keep = not foreseen or (kind == "died" and error.__cause__ and not isinstance(error.__cause__, OSError))
        return json.dumps({"error": str(error) if foreseen else f"{target} failed: {type(error).__name__}: {error}",
                           "kind": kind, "traceback": traceback.format_exc() if keep else ""})


def _start_anew() -> None:
    global _server, _starter, _choosing
    _server, _starter, _choosing = None, ThreadPoolExecutor(1), threading.Lock()


_server: _Server | None
_starter: ThreadPoolExecutor
_choosing: threading.Lock
_start_anew()
os.register_at_fork(after_in_child=_start_anew)  # the server of the process that was forked is not its child's
