"""Which of the sizes in a log is the artifact's: compressed weights plus the code as it ships."""

from results.parse.facts import RunFacts, Size
from results.parse.told import Told


def settle_sizes(facts: RunFacts, told: Told) -> None:
    """Say artifact_bytes and code_bytes.

    A total that is the sum of a compressed model and a code size is the artifact's, whatever its label says: the
    unlabelled `Total submission size` is the uncompressed checkpoint's in most logs, and the artifact's in some.
    """
    trained = facts.step_line is not None
    known = [one for one in facts.sizes if not (trained and one.early and one.kind != "code")]
    models = [one for one in known if one.kind == "model"]
    totals = [one for one in known if one.kind == "total"]
    codes = [one for one in known if one.kind == "code"]
    compressed = [one for one in models if one.label] or models[1:]
    counts = {one.value for one in codes}
    sums = {model.value + code for model in {one.value: one for one in compressed}.values() for code in counts}
    if (code := _code(codes, {one.value for one in compressed}, {one.value for one in totals})) is not None:
        told.say("code_bytes", code.value, code.line, code.text)
    fits = [one for one in totals if one.value in sums]
    checkpoints = {model.value + code for model in models if not model.label for code in counts}
    labelled = [one for one in totals if _is_artifact(one) and one.value not in checkpoints]
    chosen = fits or labelled
    if len(values := sorted({one.value for one in chosen})) > 1:
        told.silent(f"the log states {' and '.join(f'{value:,}' for value in values[:4])} bytes", "artifact_bytes")
    elif chosen:
        told.say("artifact_bytes", chosen[-1].value, chosen[-1].line, chosen[-1].text)


def _is_artifact(total: Size) -> bool:
    """Whether a total without a sum behind it is one of the artifact by its words."""
    words = total.text.lower()
    return not total.weak and (bool(total.label) or "artifact" in words or "budget" in words)


def _code(codes: list[Size], compressed: set[int], totals: set[int]) -> Size | None:
    """The code as it ships: what is said to be compressed, else what makes a total, else the last one."""
    packed = [one for one in codes if one.label.startswith("compressed")]
    summed = [one for one in codes if any(total - one.value in compressed for total in totals)]
    whole = [one for one in codes if not one.label.startswith("uncompressed")]
    chosen = packed or summed or whole
    return chosen[-1] if chosen else None
