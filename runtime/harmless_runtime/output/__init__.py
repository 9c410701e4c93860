"""What a run writes, and how it is kept whatever happens."""
