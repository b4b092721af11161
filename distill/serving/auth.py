"""The bearer token, without which a server that others can reach is not begun."""

import hmac
import ipaddress
import os
from hashlib import sha256
from pathlib import Path

from distill.errors import InputError
from distill.run.storage import read_text

TOKEN = "SENTIDISTILL_TOKEN"
"""The environment variable."""
_SHORTEST, _LONGEST = 16, 4096


def token_of(path: Path | None, host: str) -> str | None:
    """Return the token in a file, else that of the environment, else None for a server on this machine alone.

    Raises:
        InputError: the file cannot be read, the token is none that a header can carry or is easily guessed, or others
            can reach ``host`` and there is none.
    """
    if path is not None:
        token, where = read_text(path, _LONGEST, "It is named by --token-file.").strip(), str(path)
    elif TOKEN in os.environ:
        token, where = os.environ[TOKEN].strip(), f"the environment variable {TOKEN}"
    elif not _is_loopback(host):
        raise InputError(f"Whoever reaches {host} could use the model. Put a token into a file (openssl rand -hex 32 "
                         f"> token) and give --token-file, or set {TOKEN}; or leave --host out, which serves this "
                         "machine only.")
    else:
        return None
    if len(token) < _SHORTEST or not all("!" <= character <= "~" for character in token):
        raise InputError(f"The token in {where} must be {_SHORTEST} or more letters, digits and signs of ASCII, "
                         "without blanks. 'openssl rand -hex 32' makes one.")
    return token


def is_right(header: str | None, token: str) -> bool:
    """Say whether an Authorization header bears the token, in a time that does not tell how much of it is right."""
    kind, _, given = (header or "").partition(" ")
    known = sha256(token.encode()).digest()
    return hmac.compare_digest(sha256(given.strip().encode()).digest(), known) and kind.casefold() == "bearer"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
