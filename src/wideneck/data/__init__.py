"""Text to tokens.  Nothing here downloads."""

from wideneck.data.text import Text, Windows, cut_windows, default_text, read_text

__all__ = ["Text", "Windows", "cut_windows", "default_text", "read_text"]
