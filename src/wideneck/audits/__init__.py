"""One file a measurement: tensors in, a dataclass of plain numbers out."""
