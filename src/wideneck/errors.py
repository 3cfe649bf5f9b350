"""The one exception that wideneck raises for a mistake that its user can mend."""


class WideneckError(ValueError):
    """Says what was expected, what came and what to do, in one sentence.

    The command line prints it as one line and exits with 1; no other exception is
    part of the interface.
    """
