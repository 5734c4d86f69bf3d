"""Legal test-time training in phases: documents are scored with low-rank additions of their own, longest first, and at
given points all weights learn from documents that are scored whole; then scoring goes on with the new weights.

The queue: documents by falling length, in batches. Each phase ends after the first batch with which its number of
documents is completely scored; all ranks meet there, and take one pass of SGD over just that number of documents, in
the queue's order: pieces of `chunk_tokens` targets, cut into sequences that never cross a document's start; the rate
falls by a cosine over the pieces, the last of which is left out; momentum begins at zero. Then they score on.

Batches of a phase are dealt to the ranks by their place in the queue, and phases end at places of the queue: how many
ranks there are changes nothing but rounding. (The source's ranks claim batches through a counter in a file, and meet
when enough documents happen to be done; and its additions' A goes from batch to batch, so that a score depends on
which batches its rank had before. Here a document depends on its own tokens and the phases before alone.)
Source: openai/parameter-golf #1610, #1626, #1855.
"""

from collections.abc import Callable

from golf_core.config import TTTConfig
from golf_core.evaluate.chunk_ttt import ChunkLearner, chunk_lr
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.lora_ttt import Document, score_documents, weights_frozen
from golf_core.evaluate.tokens import Span
from golf_core.model.gpt import GPT


def document_queue(documents: list[Document], size: int) -> list[list[Document]]:
    """Batches of documents of similar length, longest first, equal ones in the stream's order. Within a batch the
    order is the other way round, as `score_documents` wants it."""
    ordered = sorted(documents, key=lambda document: (document[0] - document[1], document[0]))
    return [ordered[low : low + size][::-1] for low in range(0, len(ordered), size)]


def phase_ends(config: TTTConfig, documents: int) -> list[int]:
    """After how many completely scored documents all weights learn. Not after the last: nothing would be scored."""
    wanted, phases = config.phased_documents, config.phases
    return sorted({wanted * k // phases for k in range(1, phases + 1)} & set(range(1, documents)))


def learning_pieces(documents: list[Document], piece_tokens: int, seq_len: int) -> list[list[Span]]:
    """The documents one after another, in pieces of `piece_tokens` targets, the last one shorter: each piece as
    sequences of at most `seq_len` targets, all within one document."""
    pieces: list[list[Span]] = [[]]
    room = piece_tokens
    for first, stop in documents:
        while first < stop:
            if not room:
                pieces.append([])
                room = piece_tokens
            end = min(first + seq_len, stop, first + room)
            pieces[-1].append((first, end))
            room -= end - first
            first = end
    return pieces


def learn_globally(model: GPT, ledger: ScoreLedger, documents: list[Document], config: TTTConfig, seq_len: int) -> None:
    """One pass over scored documents; all ranks take it together."""
    learner = ChunkLearner(model, config, ledger.rank, ledger.world)
    pieces = learning_pieces(documents, config.chunk_tokens, seq_len)
    for number, piece in enumerate(pieces[:-1]):
        learner.learn(ledger, piece, chunk_lr(config.phased_lr, number, len(pieces)), epochs=1)


def evaluate_phased_ttt(
    model: GPT,
    ledger: ScoreLedger,
    config: TTTConfig,
    *,
    seq_len: int,
    stride: int,
    batch_seqs: int,
    progress: Callable[[int, int], None],
) -> int:
    """Score the whole stream by documents, learning on the way. Returns the number of passes over scored documents;
    `model` is changed. `stride` and `batch_seqs` belong to evaluations by windows."""
    queue = document_queue(ledger.documents(), config.lora_documents)
    flat = [document for batch in queue for document in reversed(batch)]
    total, before, begun, passes = ledger.targets // ledger.world, 0, 0, 0
    ledger.watch(model.parameters())
    for end in [*phase_ends(config, len(flat)), len(flat)]:
        upto = -(-end // config.lora_documents)  # batches, until so many documents are scored whole
        with weights_frozen(model):
            for batch in queue[begun:upto][ledger.rank :: ledger.world]:
                done = 0
                for done in score_documents(model, ledger, batch, config, seq_len):
                    progress(before + done, total)
                before += done
        begun = upto
        if begun < len(queue):
            ledger.merge()
            ledger.watch(model.parameters())
            learn_globally(model, ledger, flat[:end], config, seq_len)
            passes += 1
    return passes
