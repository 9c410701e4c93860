"""Make a page of a run's scores that people can look at."""
