"""Personal data: e-mail addresses, phone numbers and user names give way to words that stand for them."""

import re

EMAIL, PHONE, USER = "[email]", "[phone]", "@user"

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
# Names are ASCII wherever people are addressed so; what stands before the sign does not matter ("RT@ann", "#tbt@ann").
_USER = re.compile(r"[@\uff20][A-Za-z0-9_]{1,30}")
# Numbers in the shapes in which people write them: +49 (30) 1234-567; 1-800-555-1234, (555) 123 4567; 0171 1234567.
# Bare runs of digits are prices, years and order numbers as often, so they stay.
_PHONE = re.compile(
    r"(?<![\w.,#$€£+-])(?:"
    r"\+[1-9](?:[ ().-]{0,2}\d){7,14}"
    r"|(?:1[ .-])?(?:\(\d{3}\)[ .-]?|\d{3}[ .-])\d{3}[ .-]\d{4}"
    r"|0\d{2,5}[ /-]\d{3,8}(?:[ -]\d{2,5})?"
    r")(?![\w%]|[.,-]\d)")
_LEAST_DIGITS = 9  # of a number that begins with 0


def mask_personal(text: str) -> str:
    """Return the text with ``[email]``, ``[phone]`` and ``@user`` for what they name. Idempotent."""
    if "@" in text or "\uff20" in text:
        text = _USER.sub(USER, _EMAIL.sub(EMAIL, text))
    return _PHONE.sub(_phone, text)


def excerpt(text: str, mask: bool, max_chars: int = 1000) -> str:
    """Return the start of a text for a list of what was dropped or found, with personal data masked if asked."""
    return mask_personal(text[:max_chars]) if mask else text[:max_chars]


def _phone(match: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in match[0])
    return match[0] if match[0].startswith("0") and digits < _LEAST_DIGITS else PHONE
