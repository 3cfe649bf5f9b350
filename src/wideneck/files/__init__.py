"""The ground: how strangers' files are read, and how ours are written.  Imports no torch."""
