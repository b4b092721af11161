"""Every command, with every argument that names something replaced by what is broken: a paragraph and status 1 or 2."""

import argparse
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flows.cli.main
import sentibench.cli
from distill.errors import InputError

_ENDLESS = {"ui", "worker"}  # they need no input, and end when they are told to


def leaves(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()
           ) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    """Yield every command that does something, with the words that lead to it."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words, parser
    for action in below:
        for name, inner in action.choices.items():
            yield from leaves(inner, (*words, name))


def broken(folder: Path) -> list[str]:
    """What is no good, whatever it is wanted for."""
    (folder / "empty").write_text("")
    (folder / "folder").mkdir()
    (folder / "junk.yaml").write_bytes(bytes(range(256)) * 8)
    (folder / "junk.parquet").write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    (folder / "junk.jsonl").write_text('{"text": \n[[[[[[\n"' + "9" * 5000 + "\n")
    (folder / "junk.csv").write_text('text\n"never closed\n')
    (folder / "list.yaml").write_text("- 1\n- [2]\n")
    (folder / "bomb.yaml").write_text("a: &a [*a]\n")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(bytes(32))
    (folder / "runs" / "run").mkdir(parents=True)
    (folder / "runs" / "run" / "config.yaml").write_text("name: run\n")
    os.mkfifo(folder / "fifo")
    socket.socket(socket.AF_UNIX).bind(str(folder / "socket"))
    (folder / "loop").symlink_to("loop")
    return ["nothing", *(item.name for item in folder.iterdir() if item.name != "runs"), "run", "/dev/zero", "", ".",
            "..", "~nobody/x", "a" * 300, "a\tb", "caf\udce9", "x\udcff.jsonl", "=cmd()", "$x$", "../../etc/passwd",
            "9" * 5000]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of broken things; no server is started, and whoever would wait for ever is woken."""
    from flows.orchestration import deploy, ephemeral_server

    def no_server(*_: object) -> str:
        raise InputError("There is no server here.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ephemeral_server, "EphemeralServer", no_server)
    monkeypatch.setattr("flows.cli.commands.warm_up", lambda: None)
    monkeypatch.setattr("distill.runtime.process.call_in_process", no_server)
    monkeypatch.setattr(deploy, "needs_server", no_server)
    return tmp_path


def lines(parser: argparse.ArgumentParser, value: str) -> list[str]:
    """A command line in which everything that can be named is called ``value``."""
    found: list[str] = []
    for action in parser._actions:
        if action.nargs == 0 or isinstance(action, argparse._HelpAction):
            continue
        if action.option_strings and not (action.required or action.dest in ("config", "history", "runs_dir")):
            continue
        word = str(next(iter(action.choices))) if action.choices else "3" if action.type is int else value
        found += [f"{action.option_strings[0]}={word}"] if action.option_strings else [word]
    return ["--", *found] if all(not one.startswith("--") for one in found) else found


COMMANDS = [("distill", words) for words, _ in leaves(flows.cli.main.build_parser()) if words[0] not in _ENDLESS] + [
    ("sentibench", words) for words, _ in leaves(sentibench.cli._parser())]


@pytest.mark.parametrize(("program", "words"), COMMANDS, ids=["-".join([first, *words]) for first, words in COMMANDS])
def test_no_broken_input_of_any_command_ends_in_a_traceback(
        program: str, words: tuple[str, ...], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = dict(leaves(flows.cli.main.build_parser() if program == "distill" else sentibench.cli._parser()))[words]
    main: Any = flows.cli.main.main if program == "distill" else sentibench.cli.main
    for value in broken(here):
        line = [*words, *lines(parser, value)]

        def too_long(*_: object, line: list[str] = line) -> None:
            raise AssertionError(f"{line} does not end")

        before = signal.signal(signal.SIGALRM, too_long)
        signal.alarm(60)
        try:
            status = main(line)
        except SystemExit as ended:
            status = ended.code
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        said = capsys.readouterr().err
        assert "Traceback (most" not in said and "not foreseen" not in said, (line, said)
        assert status in (None, 0, 1, 2), (line, status)
