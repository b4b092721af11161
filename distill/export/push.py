"""A folder as a repository on the Hugging Face Hub, or on a server that speaks its protocol."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distill.errors import InputError, RunError

_LOG_IN = "log in with 'hf auth login', or set HF_TOKEN to a token that may write (settings/tokens on the Hub)"


@dataclass(frozen=True)
class Pushed:
    """Where a folder is now: the page of its repository and the commit; ``is_new``: whether anything was uploaded."""

    url: str
    commit: str
    is_new: bool


def check_repository(repository: str, endpoint: str | None) -> None:
    """Refuse a name that no repository can have, and an address that is none.

    Raises:
        InputError: it is one of these.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise InputError(f"'{repository}' cannot be the name of a repository ({error}). Name it OWNER/NAME, with "
                         "letters, digits, - _ and . only.") from error
    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
            raise InputError(f"--endpoint {endpoint} is no address of a Hub. Give one like https://huggingface.co, "
                             "without user and password.")


def token_or_refuse() -> str:
    """Return the token that writes are done with.

    Raises:
        InputError: there is none.
    """
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise InputError(f"There is no token to upload with: {_LOG_IN}.")
    return str(token)


def push_folder(folder: Path, repository: str, private: bool, revision: str | None, endpoint: str | None) -> Pushed:
    """Upload a folder's files to a repository, which is made where there is none. What is there already is not sent.

    ``revision`` is a branch, made where there is none.

    Raises:
        InputError: there is no token, it may not write there, or the Hub refuses the repository's name or the card.
        RunError: the Hub cannot be reached, or fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns where nothing is new
    api = HfApi(endpoint=endpoint, token=token_or_refuse())
    with _told(repository, api.endpoint):
        name = repository if "/" in repository else api.get_full_repo_name(repository)
        if not api.repo_exists(name):  # a token may write to one repository without the right to make others
            api.create_repo(name, private=private or None, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        before = api.model_info(name, revision=revision).sha
        done = api.upload_folder(repo_id=name, folder_path=folder, revision=revision,
                                 commit_message="Upload with sentidistill")
    return Pushed(f"{api.endpoint}/{name}", done.oid, done.oid != before)


@contextmanager
def _told(repository: str, endpoint: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # of the client it uses

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise InputError("HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it.") from error
    except HfHubHTTPError as error:
        raise _refused(repository, endpoint, error) from error
    except (ClientError, ConnectionError, TimeoutError) as error:
        raise RunError(f"The Hub at {endpoint} cannot be reached ({_first_line(error)}). Nothing is lost: the same "
                       "command uploads what is missing.") from error
    except ValueError as error:  # of a card whose head is refused
        said = " ".join(str(error).split())[:300].rstrip(".")
        raise InputError(f"The folder cannot go to {repository} at {endpoint}: {said}. Mend what it names.") from error
    except RuntimeError as error:  # of a file that could not be sent, whose cause is inside
        raise RunError(f"Not all files got to {repository} at {endpoint} ({_first_line(error.__cause__ or error)}). "
                       "The same command uploads what is missing.") from error


def _refused(repository: str, endpoint: str, error: Any) -> InputError | RunError:
    status = getattr(error.response, "status_code", None)
    said = _first_line(getattr(error, "server_message", None) or error)
    if status == 401:
        return InputError(f"The Hub at {endpoint} does not accept the token ({said}): {_LOG_IN}.")
    if status == 403:
        return InputError(f"The token may not write to {repository} at {endpoint} ({said}). Use one with the right to "
                          "write there, or a repository of your own (OWNER/NAME).")
    if status == 404:
        return InputError(f"There is no repository {repository} at {endpoint}, or the token may not see it ({said}). "
                          "Check the name and the token.")
    if status is not None and 400 <= status < 500 and status != 429:
        return InputError(f"The Hub at {endpoint} refuses {repository} (status {status}: {said}). Mend what it names.")
    return RunError(f"The Hub at {endpoint} failed (status {status}: {said}). The same command uploads what is "
                    "missing.")


def _first_line(error: object) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line[:300].rstrip(".")
