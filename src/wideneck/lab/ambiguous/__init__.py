"""The ambiguous-template task of HistAlign (Wan et al. 2023, section 5.1): two words fit equally.

Analogies are set into sentences (`words`), split by their pairs (`splits`) and turned into ids
(`encoding`); `wideneck.lab.histalign.evaluation` scores them.
"""
