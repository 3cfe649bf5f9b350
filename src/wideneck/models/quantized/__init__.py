"""Quantized matrices of a checkpoint, decoded to float32 rows; one file a layout.

`layouts` lists them, `checkpoint` shows a file as if its matrices were stored plainly.
"""
