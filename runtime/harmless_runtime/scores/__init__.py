"""Make other forms of the scores of a run, joined with its rows if that is wanted."""
