"""Several models on the same tokens: which one is better, and where."""
