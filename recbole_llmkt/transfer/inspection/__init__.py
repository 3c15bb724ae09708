"""What a model is made of: its layers, their rows, its tables."""
