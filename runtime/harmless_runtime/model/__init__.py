"""Score rows of token ids with an artifact: its files, its tokenizer and its session."""
