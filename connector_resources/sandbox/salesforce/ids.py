"""Record ids: 15 case-sensitive characters, or 18 with a suffix that spells the case of the first 15."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_UPPER = {ord(char): "01"["A" <= char <= "Z"] for char in _DIGITS}
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
    bits = short.translate(_UPPER)
    return short + "".join(_SUFFIX[int(bits[start : start + 5][::-1], 2)] for start in (0, 5, 10))


def normal(text: object) -> str | None:
    """The 18-character form of a 15- or 18-character id; None for a text that is no id."""
    if not isinstance(text, str) or len(text) not in (15, 18) or not (text.isascii() and text.isalnum()):
        return None
    full = with_suffix(text[:15])
    return full if len(text) == 15 or full[15:] == text[15:].upper() else None
