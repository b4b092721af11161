"""Fixtures that several test files share: built once a session."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.flow_helpers import distill

# The models of these tests are tiny: a second thread costs more in waiting than it saves, much more on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Machines are shared and noisy: how long an example takes says nothing.
settings.register_profile("sentidistill", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("sentidistill")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data; tests that need it are skipped where there is none."""
    value = os.environ.get("SENTIDISTILL_SHARED")
    if not value or not Path(value).is_dir():
        pytest.skip("SENTIDISTILL_SHARED does not name a folder of real data")
    return Path(value)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random-weight Llama of under 1M parameters and SmolLM2's tokenizer."""
    from distill.models import resolve_model

    return resolve_model("random-tiny", cache=tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An empty folder in which ``distill run ci`` has been run to its end."""
    folder = tmp_path_factory.mktemp("user")
    done = distill("run", "ci", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "The report: runs/ci/report/report.html" in done.stdout
    return folder
