"""Which of the sizes in a log is the artifact's: the one that is compressed weights plus code."""

import typing

from results.parse.assemble import RunFacts
from results.parse.facts import Size

if typing.TYPE_CHECKING:
    from results.parse.claim import Told


def settle_sizes(facts: RunFacts, told: "Told") -> None:
    """Say artifact_bytes and code_bytes. An unlabelled total is the uncompressed checkpoint's unless the sum says else."""
    models = [one for one in facts.sizes if one.kind == "model"]
    totals = [one for one in facts.sizes if one.kind == "total"]
    codes = [one for one in facts.sizes if one.kind == "code"]
    compressed = [one for one in models if one.label] or models[1:]
    code = _code(codes, compressed, totals)
    if code is not None:
        told.say("code_bytes", code.value, code.line, code.text)
    fits = [t for t in totals if any(t.value == m.value + c.value for m in compressed for c in codes)]
    labelled = [t for t in totals if t.label or "artifact" in t.text.lower() or "budget" in t.text.lower()]
    checkpoint = {m.value + c.value for m in models if not m.label for c in codes}
    chosen = fits or [t for t in labelled if t.value not in checkpoint] or [t for t in totals if t.value not in checkpoint]
    if not chosen:
        return
    values = {one.value for one in chosen}
    if len(values) > 1 and not fits:
        told.silent("artifact_bytes", f"the log states {' and '.join(str(value) for value in sorted(values))}")
        return
    told.say("artifact_bytes", chosen[-1].value, chosen[-1].line, chosen[-1].text)


def _code(codes: list[Size], compressed: list[Size], totals: list[Size]) -> Size | None:
    """The size of the code as it ships: what makes the total, else what is said to be compressed."""
    summed = [c for c in codes if any(t.value == m.value + c.value for m in compressed for t in totals)]
    packed = [c for c in codes if "compressed" in c.label and "un" not in c.label]
    return (packed or summed or codes or [None])[-1]
