"""Tasks in which a target is to be told from a source: data, and what can be checked of it."""
