"""What scores: an artifact, its tokenizer, and a session that runs it."""
