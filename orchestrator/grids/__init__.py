"""Many submissions at once: grids from code or from a file, planned together and run side by side."""
