"""The command `harmless`."""
