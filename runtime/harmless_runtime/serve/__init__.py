"""Score rows that other programs send over HTTP."""
