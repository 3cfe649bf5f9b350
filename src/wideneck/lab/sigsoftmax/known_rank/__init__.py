"""Languages whose log-probability matrix, and so its rank, is known: KL against d for each head."""
