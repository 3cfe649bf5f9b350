"""What a cheaper output layer costs."""
