"""What is written, so that no crash loses a row."""
