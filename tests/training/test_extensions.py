"""Locks around extensions that are compiled: nobody waits for one that is dead."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch.utils.cpp_extension
from torch.utils.file_baton import FileBaton

from distill.training.extensions import Lock, compile_under_locks

HOLD = """
import sys, time
from distill.training.extensions import Lock
lock = Lock(sys.argv[1])
print(lock.try_acquire(), flush=True)
time.sleep(600)
"""


def test_one_compiles_and_the_others_wait_until_it_is_done_or_dead(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    FileBaton(path).try_acquire()  # what torch's own leaves behind when its process is killed
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "True\n"
        lock = Lock(path)
        assert not lock.try_acquire()
        waiter = threading.Thread(target=lock.wait)
        waiter.start()
        waiter.join(0.2)
        assert waiter.is_alive()
    finally:
        holder.kill()
    waiter.join(60)
    assert not waiter.is_alive() and lock.try_acquire()
    assert not Lock(path).try_acquire()
    lock.release()
    assert Lock(path).try_acquire()


def test_torch_compiles_under_it_where_training_is_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.utils.cpp_extension, "FileBaton", FileBaton)
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "")
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR")
    compile_under_locks()
    folder = torch.utils.cpp_extension._get_build_directory("one", verbose=False)
    assert Path(folder).is_relative_to(tmp_path / "torch_extensions")
    assert torch.utils.cpp_extension.FileBaton is Lock
