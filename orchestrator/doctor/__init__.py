"""What a submit from here would stand on, and the mend where something is wrong."""
