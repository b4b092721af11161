"""Do what a Dockerfile says, in a clean folder and without a container engine, as an ordinary user.

    python -m tests.support.dockerfile docker/flows.Dockerfile EMPTY_FOLDER [ARGUMENT ...]

Absolute paths of the image stand below the folder. COPY and RUN are carried out, then the entry point with the
arguments (default: CMD). What a container alone could show is left out: the base image, and RUN lines before USER,
which install Debian's packages as root.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PLACES = ("/opt/sentidistill", "/data")


@dataclass
class Image:
    """What has been built so far of a Dockerfile, below ``root``."""

    dockerfile: Path
    root: Path
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)

    def build(self) -> None:
        """Carry out every instruction, in order; an unknown one is an error."""
        for place in _PLACES:
            (self.root / place[1:]).mkdir(parents=True, exist_ok=True)
        (self.root / "home").mkdir(exist_ok=True)
        self.own(self.root)
        for instruction, rest in instructions(self.dockerfile):
            getattr(self, f"_{instruction.lower()}")(rest)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Start the entry point with arguments, or with CMD."""
        return self._call([*self.entrypoint, *(arguments or self.command)], **environment)

    def _from(self, rest: str) -> None:
        assert re.fullmatch(r"\S+:\S+", rest) and not rest.endswith(":latest"), f"not pinned: {rest}"

    def _user(self, rest: str) -> None:
        self.user = rest

    def _workdir(self, rest: str) -> None:
        self.workdir = rest

    def _env(self, rest: str) -> None:
        for part in shlex.split(rest):
            name, _, value = part.partition("=")
            before = self.environment.get("PATH", os.environ["PATH"])
            self.environment[name] = self._here(value).replace("$PATH", before)

    def _entrypoint(self, rest: str) -> None:
        self.entrypoint = json.loads(rest)

    def _cmd(self, rest: str) -> None:
        self.command = json.loads(rest)

    def _copy(self, rest: str) -> None:
        *sources, target = [part for part in shlex.split(rest) if not part.startswith("--")]
        folder = self._path(target)
        for name in (context_files() if sources == ["."] else sources):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, dirs_exist_ok=True,
                                ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        self.own(folder)

    def _run(self, rest: str) -> None:
        if not self.user:
            self.packages += [word for part in re.findall(r"apt-get install ([^&]*)", rest) for word in part.split()
                              if not word.startswith("-")]
            return
        done = self._call(["/bin/sh", "-c", self._here(rest)])
        assert done.returncode == 0, f"{rest}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"

    def _call(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        passed = {name: os.environ[name] for name in (
            "PATH", "PIP_FIND_LINKS", "PIP_CERT", "PIP_INDEX_URL", "SSL_CERT_FILE", "PYTHON") if name in os.environ}
        environment = {"HOME": str(self.root / "home"), "LANG": "C.UTF-8", **passed, **self.environment, **more}
        program = shutil.which(command[0], path=environment["PATH"]) or command[0]
        return subprocess.run([program, *command[1:]], cwd=self._path("."), env=environment, capture_output=True,
                              text=True, check=False, **_ordinary_user())

    def _path(self, path: str) -> Path:
        return self.root / self.workdir[1:] / path if not path.startswith("/") else self.root / path[1:]

    def _here(self, text: str) -> str:
        return re.sub("|".join(map(re.escape, _PLACES)), lambda found: f"{self.root}{found.group()}", text)

    def own(self, folder: Path) -> None:
        """Give a folder to the image's user."""
        if not _ordinary_user():
            return
        for path in (folder, *folder.rglob("*")):
            if ".venv" not in path.parts:
                os.chown(path, _ordinary_user()["user"], -1, follow_symlinks=False)


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with the rest of their lines, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()]


def context_files() -> list[str]:
    """Return what .dockerignore lets into an image."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!")]


def _ordinary_user() -> dict[str, int]:
    """Return the arguments that make a process another than root's; none where we are not root."""
    return {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}


def main() -> None:
    """Build, run, and say what came out."""
    dockerfile, root, *arguments = sys.argv[1:]
    image = Image(Path(dockerfile), Path(root).resolve())
    image.root.mkdir(parents=True, exist_ok=True)
    image.build()
    done = image.run(*arguments)
    print(f"Debian packages, not installed here: {' '.join(image.packages)}\n{done.stdout}{done.stderr}")
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
