"""What of an address is secret, and texts without it. Everything that is shown, kept or compared goes through here.

Secret are passwords, and user names of web addresses (which are often tokens); parameters whose name says so or that
belong to a signature; values that no one would have typed; and tokens of well-known services wherever they stand.
"""

import re
from urllib.parse import quote, unquote, unquote_plus

HIDDEN = "***"
"""What stands where a secret stood."""

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"<>]*")
_NEXT_IN_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.\-]*(?:://|::|$))")
_SECRET_WORD = re.compile(
    "accesskey(id)?|accountkey|apikey|appkey|auth|authkey|authorization|awsaccesskeyid|bearer|cookie|cred|creds"
    "|credentials?|googleaccessid|hmac|jwt|keyids?|keypairid|nonce|oauth|ossaccesskeyid|otp|pass|passphrase|passwd"
    "|password|privatekey|pw|pwd|sas|secret|secretkey|sessionid|sig|signature|signed|tokens?")
# Words that as often name something else (?key=reviews.csv, ?code=en): secret beside a signature, and where the value
# is not made of words, short numbers and dates.
_EXPIRY = re.compile("exp|expires?|expiry")
_MAYBE_SECRET_WORD = re.compile(f"code|{_EXPIRY.pattern}|keys?|pin|policy|session|sid|sign|ticket")
_WORD = (r"(?:[A-Z]?[a-z]{1,20}(?:[A-Z][a-z]{2,20}){0,3}\d{0,4}|[A-Z]{1,5}|\d{1,4}[a-z]{0,2}|(?:19|20)\d{6})")
_TYPED = re.compile(rf"[-_./+: ,*]*{_WORD}(?:[-_./+: ,*]+{_WORD})*[-_./+: ,*]*|.{{0,5}}")
_SECRET_PARTS = ("token", "secret", "passw", "passphrase", "pwd", "signature", "credential", "apikey", "accesskey",
                 "sessionid")
_SIGNERS = ("x-amz-", "x-goog-", "x-oss-", "x-cos-", "x-obs-", "x-ms-", "q-sign", "q-ak", "q-key", "q-header", "q-url",
            "hdn")
# Of a shared access signature (Azure): what is signed, beside the signature itself. Plain names, so only beside it.
_BESIDE_A_SIGNATURE = re.compile("sv|ss|srt|sr|sp|st|se|spr|sip|skoid|sktid|skt|ske|sks|skv|sdd|rsct")
# Parameters that say which object is meant, however long and random their values are.
_CHOOSES = re.compile("(object|file|version)?ids?|(file)?name|file|path|dataset|version|generation|revision|rev|ref"
                      "|commit|sha(1|256)?|md5|hash|checksum|etag|object|doi|handle")
_NOT_TYPED = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9+/=_.~\-]{20,}")
_TOKEN = re.compile(
    r"\b(?:gh[opsur]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|hf_[A-Za-z0-9]{16,}|glpat-[\w\-]{16,}|xox[abprs]-[\w\-]{10,}"
    r"|sk-(?:proj-|svcacct-|or-v1-|ant-[a-z]+\d\d-)[\w\-]{20,}|sk-[A-Za-z0-9_]{20,}|A[KS]IA[A-Z0-9]{16}|eyJ[\w\-]{8,}\.[\w\-]+(?:\.[\w\-]*)?)")
_OWNER_AND_NAME = ("github", "git")
"""Schemes that name a repository or a branch where others have a password."""
_CONTAINER = ("abfs", "abfss", "wasb", "wasbs", "hdfs")
"""Schemes that name a container where others have a user."""
# A signature where anything else of the address is secret (nginx: md5 and expires), else what says which object.
_MAYBE_SIGNATURE = re.compile("md5|sha(1|256)?|hash|checksum|h|s|e|st")
_PATH_PARAMETER = re.compile(r";([^/;=]+)=([^/;]*)")


def is_address(text: str) -> bool:
    """Say whether a text is an address with a scheme, and no path of this machine."""
    return "://" in text


def without_secrets(text: str) -> str:
    """Return a text in which every address has ``***`` for its secret part."""
    if "://" in text:
        text = _ADDRESS.sub(lambda found: address_without_secrets(found[0]), text)
    return _TOKEN.sub(HIDDEN, text)


def address_without_secrets(address: str, mark: str = HIDDEN) -> str:
    """Return an address with ``mark`` for its secret part; with none, the parts are left out (an identity).

    All secret parameters become one mark, so that the same object signed anew looks the same. Names of environment
    variables (``${NAME}``) stay where there is a mark.
    """
    return "::".join(_single(part, mark) for part in _NEXT_IN_CHAIN.split(address))


def secrets_of(address: str) -> list[str]:
    """Return the secret parts of an address: what must not be seen anywhere, the longest first."""
    found: set[str] = set()
    for part in _NEXT_IN_CHAIN.split(address):
        scheme, separator, rest = part.partition("://")
        if not separator:
            continue
        user, rest = _split_user(rest)
        for secret in _secret_user(scheme, user):
            found.update((secret, unquote(secret), *secret.split(":"), *unquote(secret).split(":")))
        for _, name, value, is_secret in _parameters(rest):
            if is_secret and value:
                found.update((value, unquote_plus(value), unquote(value)))
                for inner in secrets_of(unquote_plus(value)):
                    found.update((inner, quote(inner, safe="")))
            elif is_secret:
                found.add(name)
        found.update(_TOKEN.findall(rest))
        path = re.split(r"[?#]", rest, maxsplit=1)[0]
        found.update(value for name, value in _PATH_PARAMETER.findall(path) if _is_secret(
            name, _words(name), value, False))
    return sorted(found - {"", HIDDEN}, key=len, reverse=True)


def has_secrets(text: str) -> bool:
    """Say whether a text holds an address with a secret part that stands there as it is."""
    return any(_REFERENCE.sub("", secret).strip(":") for found in _ADDRESS.findall(text)
               for secret in secrets_of(found))


def _single(part: str, mark: str) -> str:
    scheme, separator, rest = part.partition("://")
    if not separator:
        return part
    user, rest = _split_user(rest)
    if secret := _secret_user(scheme, user):
        kept = user[:len(user) - len(secret[0])] if len(secret[0]) < len(user) else ""
        user = f"{kept}{_marked(secret[0], mark)}" if mark else kept.rstrip(":")
    shown, hides = [], False
    ends = len(re.split(r"[?#]", rest, maxsplit=1)[0])
    for sign, name, value, is_secret in _parameters(rest):
        if not is_secret:
            shown.append(f"{sign}{name}{'=' if value is not None else ''}{value or ''}")
        elif mark and value and _REFERENCE.fullmatch(value):
            shown.append(f"{sign}{name}={value}")
        else:
            hides = True
    if hides and mark:
        shown.append(f"&{mark}")
    query = "".join(shown)
    if query[:1] == "&":
        query = f"?{query[1:]}"
    path = _PATH_PARAMETER.sub(
        lambda found: f";{HIDDEN}" if _is_secret(found[1], _words(found[1]), found[2], False) else found[0],
        _TOKEN.sub(HIDDEN, rest[:ends]))
    if not mark:
        path = path.replace(f";{HIDDEN}", "").replace(HIDDEN, "")
    return f"{scheme}://{user}{'@' if user else ''}{path}{query}"


def _marked(secret: str, mark: str) -> str:
    """Return what stands for a user and password: a mark, or the names of variables where it is made of just these."""
    return secret if not _REFERENCE.sub("", secret).strip(":") else mark


def _split_user(rest: str) -> tuple[str, str]:
    """Return user and password, and what follows them. A password may hold signs that should have been escaped."""
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    port = host.rpartition(":")[2] if ":" in host else ""
    ends = host.rfind("@")
    is_port = port.isdecimal() and len(port) < 6 and int(port) < 1 << 16
    if ends < 0 and port and not is_port and not host.startswith("["):
        ends = rest.rfind("@")
    return (rest[:ends], rest[ends + 1:]) if ends >= 0 else ("", rest)


def _secret_user(scheme: str, user: str) -> list[str]:
    """Return what is secret of a user and password, at most one part of them."""
    if not user or scheme.lower() in _OWNER_AND_NAME:
        return []
    if scheme.lower() in ("http", "https"):
        return [user]
    name, _, password = user.partition(":")
    if not password and scheme.lower() not in _CONTAINER and _NOT_TYPED.fullmatch(name):
        return [name]
    return [password] if password else []


def _parameters(rest: str) -> list[tuple[str, str, str | None, bool]]:
    """Return (sign before it, name, value, whether it is secret) of what follows a ``?`` or ``#``, piece by piece."""
    pieces = re.split(r"([?&#;])", rest[len(re.split(r"[?#]", rest, maxsplit=1)[0]):])
    found, all_words = [], set[str]()
    for sign, piece in zip(pieces[1::2], pieces[2::2], strict=False):
        name, equals, value = piece.partition("=")
        words = _words(unquote_plus(name))
        all_words |= words
        found.append((sign, name, value if equals else None, words))
    expires = any(map(_EXPIRY.fullmatch, all_words))
    signed = bool(all_words & {"sig", "signature"}) or (expires and any(map(_MAYBE_SIGNATURE.fullmatch, all_words)))
    judged = [(sign, name, value, _is_secret(unquote_plus(name), words, value, signed, sign == "#"))
              for sign, name, value, words in found]
    some = any(is_secret for *_, is_secret in judged)
    return [(sign, name, value, is_secret or (some and bool(_MAYBE_SIGNATURE.fullmatch(name.lower()))))
            for sign, name, value, is_secret in judged]


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()) if word}


def _is_secret(name: str, words: set[str], value: str | None, signed: bool, is_fragment: bool = False) -> bool:
    plain = name.lower()
    together = re.sub(r"[^a-z0-9]", "", plain)
    if value == HIDDEN or (value is None and name == HIDDEN):
        return True
    if is_fragment and value is None:  # a part of a page, or a name
        return bool(_TOKEN.search(name))
    if any(map(_SECRET_WORD.fullmatch, {*words, together})) or any(part in together for part in _SECRET_PARTS):
        return True
    if plain.startswith(_SIGNERS) or (signed and _BESIDE_A_SIGNATURE.fullmatch(plain)):
        return True
    decoded = unquote_plus(value or "")
    if _TOKEN.search(decoded) or (is_address(decoded) and secrets_of(decoded)):
        return True
    if any(map(_MAYBE_SECRET_WORD.fullmatch, {*words, together})):
        return value is not None and (signed or not _TYPED.fullmatch(decoded))
    text = name if value is None else decoded
    return not (_CHOOSES.fullmatch(together) and value is not None) and bool(_NOT_TYPED.fullmatch(text))
