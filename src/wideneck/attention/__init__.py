"""Attention normalizers: what turns the scores of one query into weights.

Names are loaded on first use: the configs import no torch.
"""
