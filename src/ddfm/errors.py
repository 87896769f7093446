"""The one exception that stands for a user's mistake, and text that is safe to show."""

from __future__ import annotations

import unicodedata

# Control characters, format characters (text that runs backwards, say), halves of surrogate pairs (bytes of
# a name that is not UTF-8), line and paragraph separators.
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class InputError(ValueError):
    """Bad input or usage: the message says what is wrong, with which file, and what would mend it.

    The command line prints the message as one line and exits with status 2. Whatever a name or a library
    puts into it, the message is one line without control characters.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: object) -> str:
    """Return the text as one visible line, spaces and line breaks in a row as one space."""
    return visible(" ".join(str(text).split()))


def visible(text: object) -> str:
    """Return the text with control characters and halves of characters as escapes, ``\\x1b`` for one."""
    return "".join(_escaped(c) if unicodedata.category(c) in HIDDEN else c for c in str(text))


def _escaped(character: str) -> str:
    """Return the escape that Python writes."""
    return character.encode("unicode_escape").decode("ascii")


def reason_of(error: BaseException) -> str:
    """Return why, from an exception: the system's or library's words, else the name of its kind."""
    return one_line(getattr(error, "strerror", None) or error) or type(error).__name__
