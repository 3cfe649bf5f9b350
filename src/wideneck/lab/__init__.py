"""Published numbers, and the reproductions that print ours beside them."""
