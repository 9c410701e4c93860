"""Offer the command `harmless`: a thin layer over functions that Python code can call as well."""
