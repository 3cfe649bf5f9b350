"""What attention heads select: the experiments of Mudarisov et al. 2025 (arXiv:2508.17821)."""
