"""Which text a BPB is of: it compares only with others of the same validation text, and `same_text` says which is."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.rows import Row

NOT_FINEWEB = "not the challenge's FineWeb validation split"
# The content that `python -m golf_core.data.embedded` makes; another build of SentencePiece may make another.
EMBEDDED_SHA256 = "e0abfa86e1753537e6a19e4d509030f3ecf051939e71616f3192d2ed70cd8737"
EMBEDDED_BYTES = 345_576  # its whole validation text: of a run that does not tell how much it scored
# Targets of the challenge's first 50,000 documents under its tokenizers (1024, 4096, 8192, 8192 CaseOps), and their
# bytes. The logs trim to whole sequences, so that a few thousand targets more or less are the same split.
FINEWEB_TARGETS = (62_021_632, 45_508_608, 40_540_160, 47_851_520)
FINEWEB_BYTES = 151_080_363
SPARE_TARGETS = 4096
SPARE_BYTES = 30_000  # by which the scored bytes of one text differ: each tokenizer's last sequence ends elsewhere


@dataclass(frozen=True, kw_only=True)
class Text:
    """What is known of the text that scores are of; None where it is not."""

    data_sha256: str | None = None  # of the shards: of text and tokenizer together
    tokenizer_sha256: str | None = None
    bytes: int | None = None  # scored

    @property
    def length(self) -> int | None:
        """Bytes scored; of a run that does not tell them, as no script does, those of its shards where they are known.

        >>> Text(data_sha256=EMBEDDED_SHA256).length, Text(data_sha256="a").length
        (345576, None)
        """
        return EMBEDDED_BYTES if self.bytes is None and self.data_sha256 == EMBEDDED_SHA256 else self.bytes


def same_text(a: Text | None, b: Text | None) -> bool | None:
    """Whether two scores are of one text; None where that is not known, which is never "the same".

    The same shards are the same text, unless other amounts of it were scored. Other shards under the same tokenizer are
    another text, however long. Across tokenizers, or where the shards of one side are not known, the length decides,
    with a tolerance.

    >>> same_text(Text(data_sha256="a"), Text(data_sha256="a")), same_text(Text(), Text()), same_text(None, None)
    (True, None, None)
    """
    if a is None or b is None:
        return None
    shards = (a.data_sha256, b.data_sha256)
    if None not in shards and shards[0] == shards[1]:
        return a.bytes is None or b.bytes is None or a.bytes == b.bytes
    if None not in shards and a.tokenizer_sha256 is not None and a.tokenizer_sha256 == b.tokenizer_sha256:
        return False
    return None if a.length is None or b.length is None else _is_near(a.length, b.length)


def _is_near(a: int, b: int) -> bool:
    return abs(a - b) <= min(SPARE_BYTES, a // 100, b // 100)


def text_of(rows: Sequence[Row]) -> Text | None:
    """The one text that the counted scores are of; None where there is no score, or the seeds differ."""
    found = {
        Text(data_sha256=row.data_sha256, tokenizer_sha256=row.tokenizer_sha256, bytes=row.val_bytes)
        for row in rows
        if row.counted and row.val_bpb is not None
    }
    return found.pop() if len(found) == 1 else None


def differing_seeds(rows: Sequence[Row]) -> str:
    """What differs in the texts that the counted seeds were scored on; empty where nothing does."""
    counted = [row for row in rows if row.counted and row.val_bpb is not None]
    for name, what in (
        ("data_sha256", "data"),
        ("tokenizer_sha256", "tokenizer"),
        ("val_bytes", "bytes of text"),
        ("val_tokens", "targets"),
    ):
        told = {getattr(row, name): row.seed for row in counted}
        if len(told) > 1:
            shown = ", ".join(f"seed {seed}: {_short(value)}" for value, seed in list(told.items())[:3])
            return f"the seeds were scored on different texts, {what} of {shown}"
    return ""


def _short(value: str | int | None) -> str:
    return "not known" if value is None else f"{value:,}" if isinstance(value, int) else value[:12]


def has_fineweb_bytes(text_bytes: int) -> bool:
    """Whether so much text is all of the challenge's split, under whichever tokenizer."""
    return _is_near(text_bytes, FINEWEB_BYTES)


def has_fineweb_size(tokens: int | None, text_bytes: int | None) -> bool:
    """Whether the counts are those of the challenge's split. That the content is, they do not prove."""
    if tokens is None or text_bytes is None or not has_fineweb_bytes(text_bytes):
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


def data_line(rows: Sequence[Row], name: str | None = None) -> str:
    """`Data: NAME, sha256 ..., scored tokens N, bytes M` and what is known of it. The name is the manifest's that
    lay beside the shards, where there was one; the hash alone tells the content."""
    counts = sorted({(row.val_tokens, row.val_bytes) for row in rows if row.val_tokens and row.val_bytes})
    sizes = "".join(f", scored tokens {tokens:,}, bytes {text:,}" for tokens, text in counts)
    known = [f": {warning}" for warning in [data_warning(rows)] if warning]
    return "".join(["Data: ", f"{name}, " if name else "", f"sha256 {rows[0].data_sha256}{sizes}", *known, "."])
