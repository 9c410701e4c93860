"""The command `harmless`: a thin shell over functions that Python code can call as well."""
