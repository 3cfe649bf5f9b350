"""What is known of single tokens: whether a model was taught them, and whether it can say them."""
