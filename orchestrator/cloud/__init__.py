"""Modal as a place to run on: what is asked of it, what it holds, what comes back. The client itself is in backends."""
