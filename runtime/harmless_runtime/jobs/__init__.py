"""Run the jobs of OpenDataArena's data scorers: a YAML file with a list of scorers."""
