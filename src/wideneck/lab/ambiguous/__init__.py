"""The ambiguous-template task of HistAlign (Wan et al. 2023, section 5.1): two words fit equally.

Analogies (`words`) are split by their pairs (`splits`), set into sentences (`instances`), turned
into ids (`encoding`) and scored (`accuracy`).
"""
