"""Why do small language models underperform? (Godey et al. 2024, arXiv 2404.07647)."""
