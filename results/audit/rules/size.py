"""What counts as code, for a reviewer's sum; the artifact's bytes are not in the source (rules.md C1, C2)."""

from results.audit.finding import PASS, Finding
from results.audit.source.program import Program


def check(program: Program) -> list[Finding]:
    """One note: the bytes of the file, and what else of code it brings along."""
    unwrapped = len(program.main.text.encode("utf-8", "replace"))
    says = f"the file has {program.bytes:,} bytes, which count"
    if program.main.name != program.path.name and unwrapped != program.bytes:
        says += f"; what it unwraps to has {unwrapped:,}, which do not: the log has to show the former"
    beside = [
        piece for piece in program.pieces[1:] if "unwrapped" not in piece.name and piece.name != program.path.name
    ]
    sources = [(name, text) for name, text in program.other if "string in line" not in name]
    if beside or sources:
        names = [piece.name for piece in beside] + [name for name, _ in sources]
        total = sum(len(piece.text.encode("utf-8", "replace")) for piece in beside)
        total += sum(len(text.encode("utf-8", "replace")) for _, text in sources)
        says += f"; {', '.join(names[:8])} beside it, {total:,} bytes, count too"
    return [Finding("C2", PASS, "[R] C1, C2; [M] #1835", says, program.main.name, None)]
