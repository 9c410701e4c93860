"""What comes in, and what a row's line out looks like."""
