"""What is watched of an output layer while its model is trained."""
