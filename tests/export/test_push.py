"""What is pushed is the exported folder, once; and what the Hub refuses is one paragraph."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from distill.export.folder import write_record
from flows.cli.main import main
from tests.support.export import tiny_student
from tests.support.hub_server import READS, TOKEN, HubServer

CARD = """---
license: llama3.2
model-index:
- name: mine
  results:
  - task: {type: text-generation}
    dataset: {name: Irony, type: irony18, split: test}
    metrics: [{type: f1, value: 50.0}]
---
# mine

## Licences

- Teacher: Llama, Llama 3.2 Community License. **Mind: show 'Built with Llama'.**
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub that takes LFS objects (the Hub's own storage, Xet, has a protocol of its own), and a token for it."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # other tests in this process may have left the network
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    server = HubServer()
    yield server
    server.close()


@pytest.fixture
def push(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command; return its status and what it said."""
    def run(*arguments: object, repository: str = "me/mine") -> tuple[int, str]:
        status = 0
        try:
            main(["push", *map(str, arguments[:1]), repository, "--endpoint", hub.url, *map(str, arguments[1:])])
        except SystemExit as error:
            status = int(error.code or 0)
        said = capsys.readouterr()
        return status, said.err.strip() if status else said.out

    return run


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A small folder as an export leaves it."""
    folder = tmp_path / "exported"
    (folder / "prompts").mkdir(parents=True)
    for name, content in {"README.md": CARD, "config.json": "{}", "prompts/prompt_files.json": "{}",
                          "model.safetensors": "weights"}.items():
        (folder / name).write_text(content)
    write_record(folder, form="merged")
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_said_and_uploaded_whole_and_once(hub, push, exported):
    status, said = push(exported, "--private")
    assert status == 0 and "model.safetensors" in said and "prompts/prompt_files.json" in said
    assert "Licence: llama3.2. Scores in the card: 1." in said and "Built with Llama" in said and "Uploaded" in said
    repository = hub.repositories["me/mine"]
    assert repository.private and repository.branches["main"] == files_of(exported)
    hub.requests.clear()
    status, said = push(exported)
    assert status == 0 and "there already" in said and len(repository.commits) == 2
    assert not any("/commit/" in request or request.startswith("PUT") for request in hub.requests)
    (exported / "config.json").write_text("{ }")
    assert "Uploaded" in push(exported)[1] and repository.branches["main"]["config.json"] == b"{ }"


def test_a_branch_is_made_and_main_stays_as_it_is(hub, push, exported):
    push(exported)
    (exported / "config.json").write_text("{ }")
    assert push(exported, "--revision", "v2")[0] == push(exported, "--revision", "v2")[0] == 0
    branches = hub.repositories["me/mine"].branches
    assert branches["v2"]["config.json"] == b"{ }" and branches["main"]["config.json"] == b"{}"


def test_a_model_is_pushed_as_its_export(hub, push, tmp_path):
    student = tiny_student(tmp_path / "student")
    assert push(student, repository="mine")[0] == 0
    found = hub.repositories["me/mine"].branches["main"]
    assert found["model.safetensors"] == (student / "model.safetensors").read_bytes()
    assert json.loads(found["sentidistill.json"])["form"] == "merged"
    assert yaml.safe_load(found["README.md"].decode().split("---")[1])["license"] == "other"
    assert "there already" in push(student)[1]


def test_a_trial_asks_the_hub_nothing(hub, push, exported):
    status, said = push(exported, "--dry-run")
    assert status == 0 and "model.safetensors" in said and not hub.requests


@pytest.mark.parametrize(("request_of", "answer", "status", "words"), [
    ("repos/create", (500, "broken"), 1, "failed (status 500"), ("PUT /lfs", (403, "expired"), 1, "Not all files"),
    ("commit", (400, "too large"), 2, "too large"), ("preupload", (404, "gone"), 2, "no repository"),
])
def test_what_fails_on_the_way_is_one_paragraph_and_the_same_command_goes_on(request_of, answer, status, words, hub,
                                                                          push, exported):
    hub.spoil = lambda request: answer if request_of in request else None
    found, said = push(exported)
    assert found == status and words in said and len(said.splitlines()) == 1, said
    hub.spoil = lambda request: None
    assert push(exported)[0] == 0 and hub.repositories["me/mine"].branches["main"] == files_of(exported)


def test_tokens_names_and_cards_that_are_refused(hub, push, exported, monkeypatch):
    for repository in ("a/b/c", "me/with blank", "me/x--y"):
        status, said = push(exported, repository=repository)
        assert status == 2 and "cannot be the name of a repository" in said and len(said.splitlines()) == 1
    (exported / "README.md").write_text("---\ntags: []\n---\n")
    status, said = push(exported)
    assert status == 2 and "license is missing" in said and len(said.splitlines()) == 1
    (exported / "README.md").write_text(CARD)
    for token, words in (("hf_wrong", "does not accept the token"), (READS, "may not write"), ("", "no token")):
        monkeypatch.setenv("HF_TOKEN", token)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
        status, said = push(exported)
        assert status == 2 and words in said and len(said.splitlines()) == 1 and TOKEN not in said, said
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    status, said = push(exported, "--endpoint", "http://127.0.0.1:9")
    assert status == 1 and "cannot be reached" in said and len(said.splitlines()) == 1
    assert push(exported, "--endpoint", "ftp://x")[0] == 2
