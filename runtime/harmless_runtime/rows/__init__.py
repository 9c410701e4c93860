"""What comes in, row by row, and the lines that are written for it. Knows nothing of models."""
