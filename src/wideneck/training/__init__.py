"""Training from a recipe: any head on a small language model, or alone on cached hidden states."""
