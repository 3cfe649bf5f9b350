"""What the commands do, from a model's name to a report."""
