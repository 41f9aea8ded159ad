"""Record ids: 15 case-sensitive characters, or 18 with a suffix that spells the case of the first 15."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_INSTANCE = "Wz0"  # the two characters of the org's instance, and a reserved one


def record_id(prefix: str, number: int) -> str:
    """The 18-character id of the `number`th record under a key prefix ("001": accounts)."""
    text = ""
    for _ in range(9):
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return with_suffix(prefix + _INSTANCE + text)


def with_suffix(short: str) -> str:
    """15 characters → 18: each suffix character holds, as five bits, which of five characters are upper case."""
    suffix = ""
    for start in (0, 5, 10):
        bits = sum(1 << place for place, char in enumerate(short[start : start + 5]) if "A" <= char <= "Z")
        suffix += _SUFFIX[bits]
    return short + suffix


def normal(text: object) -> str | None:
    """The 18-character form of a 15- or 18-character id; None for a text that is no id."""
    if not isinstance(text, str) or len(text) not in (15, 18) or any(char not in _DIGITS for char in text):
        return None
    full = with_suffix(text[:15])
    return full if len(text) == 15 or full[15:] == text[15:].upper() else None
