"""What another library's error says, in the one line that ours quote."""


def first_line(error: Exception) -> str:
    """The first line of the message, or the error's kind where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
