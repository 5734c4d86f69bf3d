"""The record of a runs folder: what happened, who controls what, and how it is mended."""
