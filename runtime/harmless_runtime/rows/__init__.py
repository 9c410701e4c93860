"""Read input rows, and write their lines of output. This folder never imports the model."""
