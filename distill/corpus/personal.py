"""Personal data: e-mail addresses, phone numbers and user names give way to words that stand for them."""

import re

EMAIL, PHONE, USER = "[email]", "[phone]", "@user"

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])")
# Seven to fifteen digits in groups, as people write numbers: +49 (30) 1234-567, 555-123-4567, (555) 123 4567. Bare runs
# of digits are prices, years and order numbers as often, so one needs a plus, brackets or separators.
_PHONE = re.compile(
    r"(?<![\w.,/:#$€£-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]?)?\d{2,5}(?:[ .-]\d{2,5}){1,4}(?![\w/:%]|[.,-]\d)"
    r"|(?<![\w.,/:#$€£-])\+\d{7,15}(?!\w)")
_USER = re.compile(r"(?<![\w@])@\w{1,30}(?!\w)")
_LEAST_PHONE_DIGITS = 7
_MOST_PHONE_DIGITS = 15
# Years and dates: 2019-2020, 12-05-2018, 2018-05-12.
_DATE = re.compile(
    r"(?:(?:19|20)\d\d[ .-](?:19|20)\d\d|\d\d[ .-]\d\d[ .-](?:19|20)?\d\d|(?:19|20)\d\d[ .-]\d\d[ .-]\d\d)\Z")


def mask_personal(text: str) -> str:
    """Return the text with ``[email]``, ``[phone]`` and ``@user`` for what they name. Idempotent."""
    if "@" in text:
        text = _USER.sub(USER, _EMAIL.sub(EMAIL, text))
    return _PHONE.sub(_phone, text)


def _phone(match: re.Match[str]) -> str:
    digits = sum(character.isdigit() for character in match[0])
    if not _LEAST_PHONE_DIGITS <= digits <= _MOST_PHONE_DIGITS or _DATE.match(match[0]):
        return match[0]
    return PHONE
