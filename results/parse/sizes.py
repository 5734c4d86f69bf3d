"""Which of the sizes in a log is the artifact's: compressed weights plus the code as it ships."""

from results.parse.facts import RunFacts, Size
from results.parse.told import Told


def settle_sizes(facts: RunFacts, told: Told) -> None:
    """Say artifact_bytes and code_bytes.

    A total that is the sum of a compressed model and a code size is the artifact's, whatever its label says: the
    unlabelled `Total submission size` is the uncompressed checkpoint's in most logs, and the artifact's in some.
    """
    trained = facts.step_line is not None
    models = [one for one in facts.sizes if one.kind == "model" and not (trained and one.early)]
    totals = [one for one in facts.sizes if one.kind == "total" and not (trained and one.early)]
    codes = [one for one in facts.sizes if one.kind == "code"]
    compressed = [one for one in models if one.label] or models[1:]
    sums = {model.value + code.value for model in compressed for code in codes}
    if (code := _code(codes, compressed, totals)) is not None:
        told.say("code_bytes", code.value, code.line, code.text)
    fits = [one for one in totals if one.value in sums]
    checkpoint = {model.value + code.value for model in models if not model.label for code in codes}
    others = [one for one in totals if one.value not in checkpoint]
    labelled = [one for one in others if one.label or "artifact" in one.text.lower() or "budget" in one.text.lower()]
    chosen = fits or labelled or others
    values = sorted({one.value for one in chosen})
    if len(values) > 1 and not fits:
        told.silent(f"the log states {' and '.join(f'{value:,}' for value in values[:4])} bytes", "artifact_bytes")
    elif chosen:
        told.say("artifact_bytes", chosen[-1].value, chosen[-1].line, chosen[-1].text)


def _code(codes: list[Size], compressed: list[Size], totals: list[Size]) -> Size | None:
    """The code as it ships: what is said to be compressed, else what makes a total, else the last one."""
    packed = [one for one in codes if one.label.startswith("compressed")]
    values = {one.value for one in totals}
    summed = [code for code in codes if any(model.value + code.value in values for model in compressed)]
    whole = [one for one in codes if not one.label.startswith("uncompressed")]
    chosen = packed or summed or whole
    return chosen[-1] if chosen else None
