"""A report and its faces: terminal, JSON, HTML."""
