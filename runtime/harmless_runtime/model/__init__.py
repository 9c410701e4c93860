"""What scores: the artifact, its tokenizer, and a session that runs it."""
