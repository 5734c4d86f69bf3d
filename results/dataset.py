"""Which data a BPB is of, in words: a BPB compares only with others of the same validation text."""

from collections.abc import Sequence

from results.rows import Row

NOT_FINEWEB = "not the challenge's FineWeb validation split"
# The content that `python -m golf_core.data.embedded` makes; another build of SentencePiece may make another.
EMBEDDED_SHA256 = "e0abfa86e1753537e6a19e4d509030f3ecf051939e71616f3192d2ed70cd8737"
# Targets of the challenge's first 50,000 documents under its tokenizers (1024, 4096, 8192, 8192 CaseOps), and their
# bytes. The logs trim to whole sequences, so that a few thousand targets more or less are the same split.
FINEWEB_TARGETS = (62_021_632, 45_508_608, 40_540_160, 47_851_520)
FINEWEB_BYTES = 151_080_363
SPARE_TARGETS, SPARE_BYTES = 4096, 30_000


def has_fineweb_size(tokens: int | None, text_bytes: int | None) -> bool:
    """Whether the counts are those of the challenge's split. That the content is, they do not prove."""
    if tokens is None or text_bytes is None or abs(text_bytes - FINEWEB_BYTES) > SPARE_BYTES:
        return False
    return any(abs(tokens - known) <= SPARE_TARGETS for known in FINEWEB_TARGETS)


def is_of_fineweb_size(rows: Sequence[Row]) -> bool:
    """Whether every counted row, and at least one, was scored on text of the challenge's size."""
    counted = [row for row in rows if row.counted]
    return bool(counted) and all(has_fineweb_size(row.val_tokens, row.val_bytes) for row in counted)


def data_warning(rows: Sequence[Row]) -> str:
    """What heads every table of scores that are of other data than the challenge's; empty where it is of that size."""
    if is_of_fineweb_size(rows):
        return ""
    if rows and rows[0].data_sha256 == EMBEDDED_SHA256:
        return f"the embedded State of the Union corpus, {NOT_FINEWEB}"
    return NOT_FINEWEB if any(row.counted for row in rows) else ""


def data_line(rows: Sequence[Row]) -> str:
    """`Data: sha256 ..., validation tokens N, bytes M` and what is known of it."""
    counts = sorted({(row.val_tokens, row.val_bytes) for row in rows if row.val_tokens and row.val_bytes})
    sizes = "".join(f", validation tokens {tokens:,}, bytes {text:,}" for tokens, text in counts)
    warning = data_warning(rows)
    return f"Data: sha256 {rows[0].data_sha256}{sizes}" + (f": {warning}" if warning else "") + "."
