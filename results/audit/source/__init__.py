"""The source of anybody's submission, read without running any of it."""

from results.audit.source.program import Limits, Piece, Program, SourceError
from results.audit.source.read import read_program

__all__ = ["Limits", "Piece", "Program", "SourceError", "read_program"]
