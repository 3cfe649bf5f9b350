"""The ambiguous-template experiment of HistAlign (Wan et al. 2023, section 5, Table 1)."""
