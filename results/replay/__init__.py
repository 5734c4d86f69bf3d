"""The replay: an artifact scored again by a process that can see nothing else of the machine."""
