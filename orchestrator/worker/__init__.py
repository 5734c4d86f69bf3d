"""One attempt, where the processors are: its stages, its clocks, its end."""
