"""Write the results of a run, and keep them safe through crashes."""
