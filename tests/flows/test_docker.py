"""The images and the stack, as far as a machine without a container engine can tell."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.dockerfile import ROOT, Image, instructions
from tests.support.machine_code import share_machine_code

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = ROOT / "docker/compose.yaml"


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services of the stack."""
    return yaml.safe_load(COMPOSE.read_text())["services"]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A new folder that other users can reach, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="sentidistill-image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def tool(name: str) -> str:
    """The path of a program that was installed beside this Python."""
    return str(Path(sys.executable).parent / name)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_a_dockerfile_is_clean_pinned_and_not_run_as_root(path: Path) -> None:
    done = subprocess.run([tool("hadolint"), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stdout, done.stdout
    by_name = dict(instructions(path))
    assert ":" in by_name["FROM"] and "latest" not in by_name["FROM"]
    assert int(by_name["USER"]) > 0


def test_the_compose_file_is_what_its_schema_asks() -> None:
    done = subprocess.run([tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_published_beyond_this_machine_and_no_secret_stands_in_the_file(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for key, value in service.get("environment", {}).items():
            if any(word in key for word in ("PASSWORD", "TOKEN", "KEY", "WEBHOOK")):
                assert value.startswith(("${", "/run/secrets/")), f"{name}: {key}"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "docker/secrets/" in ignored


def test_every_service_that_stays_is_watched_and_pinned(services: dict[str, Any]) -> None:
    for name, service in services.items():
        if service.get("restart") != "no":
            assert "healthcheck" in service, name
        name_of_image, _, tag = service["image"].partition(":")
        assert name_of_image.startswith("sentidistill-") or tag not in ("", "latest"), name


def test_every_command_of_the_stack_is_one_of_ours(services: dict[str, Any]) -> None:
    from flows.cli import commands
    from flows.cli.main import build_parser

    ours = {name: service["command"] for name, service in services.items()
            if service["image"].startswith("sentidistill") and "entrypoint" not in service}
    assert len(ours) >= 2
    for name, command in ours.items():
        assert hasattr(commands, f"{build_parser().parse_args(command).action}_command"), name


@pytest.mark.slow
def test_the_flows_image_installs_and_runs_as_an_ordinary_user(open_folder: Path) -> None:
    image = Image(ROOT / "docker/flows.Dockerfile", open_folder)
    image.build()
    assert image.packages == ["git", "make"]
    compiled = share_machine_code(open_folder / "opt/sentidistill", open_folder / "data/machine-code")
    image.own(open_folder / "data/machine-code")
    done = image.run("collect", "ci", "--run", str(open_folder / "data/runs/ci"), **compiled)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (open_folder / "data/runs/ci/corpus/texts.parquet").exists()
    help_ = image.run()
    assert help_.returncode == 0 and "nightly" in help_.stdout
    if os.geteuid() == 0:
        assert (open_folder / "data/runs/ci").stat().st_uid != 0
