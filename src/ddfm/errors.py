"""The one exception that stands for a user's mistake."""


class InputError(ValueError):
    """Bad input or usage: the message says what is wrong, with which file, and what would mend it.

    The command line prints the message as one line and exits with status 2.
    """
