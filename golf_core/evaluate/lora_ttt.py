"""Legal test-time training a document at a time: low-rank additions that start at nothing with each document.

A document's targets are scored in chunks. A chunk's loss, once committed, moves the document's own additions to the
query and value projections and to the head by one step of Adam; the weights of the artifact stay. Documents of
similar length are scored together, but no document touches another: its additions, its start values and its
windows depend on its own tokens and its place in the stream alone. Ranks share the batches and wait for none.

A chunk's window ends where a full chunk would end, and a row is as long as that window: where its document really
ends changes nothing. (The source lets a document's last window end with it, and so reach further back.)
Source: openai/parameter-golf, records/track_10min_16mb/2026-03-17_LoRA_TTT; LoRA: https://arxiv.org/abs/2106.09685.

Shapes: b documents, T positions, C width, P scored positions a chunk, V vocabulary, R rank.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from golf_core.config import TTTConfig
from golf_core.evaluate.ledger import ScoreLedger
from golf_core.evaluate.windows import ScoreWindow
from golf_core.model.gpt import GPT
from golf_core.optim.adam import Adam
from golf_core.optim.gradients import FlatGradients

LORA_BETAS, LORA_EPS = (0.9, 0.95), 1e-10

Document = tuple[int, int]  # its targets, [first, stop)


class LowRankAddition:
    """(x A^T) B^T for each document's own A (b, R, inputs) and B (b, outputs, R); B = 0 at the start."""

    def __init__(self, a_bRI: Tensor, outputs: int) -> None:
        self.a = a_bRI.requires_grad_()
        self.b = a_bRI.new_zeros(a_bRI.size(0), outputs, a_bRI.size(1)).requires_grad_()

    def __call__(self, x_bTI: Tensor) -> Tensor:
        """For the last documents of the batch, as many as x has."""
        a, b = self.a[-x_bTI.size(0) :].to(x_bTI.dtype), self.b[-x_bTI.size(0) :].to(x_bTI.dtype)
        return torch.bmm(torch.bmm(x_bTI, a.mT), b.mT)


def adapted_projections(model: GPT) -> list[nn.Linear]:
    """c_q of each block and c_v of each that has one: the others use the c_v, and the addition, of their owner."""
    found = (getattr(block.attn, name, None) for block in model.blocks for name in ("c_q", "c_v"))
    return [linear for linear in found if linear is not None]


class DocumentAdapters:
    """The additions of one batch of documents to one model, and their Adam."""

    def __init__(self, model: GPT, documents: list[Document], config: TTTConfig) -> None:
        self.model, self.linears = model, adapted_projections(model)
        shapes = [(linear.in_features, linear.out_features) for linear in self.linears]
        shapes.append((model.config.width, model.config.vocab))
        starts = self._start_values(documents, config.lora_rank, [inputs for inputs, _ in shapes])
        self.additions = [
            LowRankAddition(a.to(model.tok_emb.weight.device), out) for a, (_, out) in zip(starts, shapes, strict=True)
        ]
        params = [p for addition in self.additions for p in (addition.a, addition.b)]
        self.params, self.gradients = params, FlatGradients(params)
        beta1, beta2 = LORA_BETAS
        self.adam = Adam([(params, config.lora_lr)], beta1=beta1, beta2=beta2, eps=LORA_EPS, decay=0.0)

    @staticmethod
    def _start_values(documents: list[Document], rank: int, inputs: list[int]) -> list[Tensor]:
        """A of each projection, uniform within 1 / sqrt(inputs), drawn for each document by its place alone."""
        rows = []
        for first, _ in documents:
            generator = torch.Generator().manual_seed(first)
            rows.append(torch.rand(rank * sum(inputs), generator=generator) * 2 - 1)
        parts = torch.stack(rows).split([rank * width for width in inputs], dim=1)
        return [p.reshape(len(documents), rank, w) * w**-0.5 for p, w in zip(parts, inputs, strict=True)]

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Every projection's output carries its addition meanwhile: whatever else the forward does stays as it is."""

        def hook(addition: LowRankAddition) -> Callable[..., Tensor]:
            return lambda module, inputs, output: output + addition(inputs[0])

        handles = [
            linear.register_forward_hook(hook(addition))
            for linear, addition in zip(self.linears, self.additions[:-1], strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def logits(self, hidden_bPC: Tensor) -> Tensor:
        """The model's logits with the head's addition under the softcap, fp32."""
        cap, weight = self.model.config.softcap, self.model.tok_emb.weight
        z = F.linear(hidden_bPC, weight.to(hidden_bPC.dtype)).float() + self.additions[-1](hidden_bPC).float()
        return cap * torch.tanh(z / cap)

    def learn(self, loss: Tensor) -> None:
        self.gradients.zero()
        loss.backward()
        self.adam.step(1.0)


@contextlib.contextmanager
def weights_frozen(model: nn.Module) -> Iterator[None]:
    """No parameter of the model asks for gradients meanwhile."""
    learning = [p for p in model.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


def document_batches(documents: list[Document], size: int) -> list[list[Document]]:
    """Batches of documents of similar length, shortest first; equal ones in the stream's order."""
    ordered = sorted(documents, key=lambda document: (document[1] - document[0], document[0]))
    return [ordered[low : low + size] for low in range(0, len(ordered), size)]


def score_documents(
    model: GPT, ledger: ScoreLedger, documents: list[Document], config: TTTConfig, seq_len: int
) -> Iterator[int]:
    """Score documents, shortest first, chunk by chunk, learning in between; yields the targets scored so far."""
    adapters, size = DocumentAdapters(model, documents, config), config.lora_chunk_tokens
    longest, done, chunk = documents[-1][1] - documents[-1][0], 0, 0
    ledger.watch(model.parameters(), adapters.params)
    with adapters.attached():
        while chunk * size < longest:
            going = [(first, stop) for first, stop in documents if stop - first > chunk * size]
            learning = sum(stop - first > (chunk + 1) * size for first, stop in documents)
            length = min((chunk + 1) * size, seq_len)
            back = (chunk + 1) * size - length
            windows = [
                ScoreWindow(first + back, min(first + back + length, stop), first + chunk * size)
                for first, stop in going
            ]
            ids = ledger.predict(windows, length)
            with torch.set_grad_enabled(learning > 0):
                logits = adapters.logits(model.hidden(ids)[:, -size:])
            scored = torch.tensor([w.stop - w.first for w in windows], device=ids.device)
            inside = torch.arange(size, device=ids.device) < scored[:, None]
            done += ledger.commit(logits.detach()[inside])[0]
            if learning:
                spans = [(w.first, w.stop) for w in windows[-learning:]]
                _, targets = ledger.adapt_own(spans)
                # The mean of each document, summed over them: one document's step does not know of another.
                loss = F.cross_entropy(logits[-learning:].flatten(0, 1), targets.flatten(), reduction="sum") / size
                adapters.learn(loss)
            chunk += 1
            yield done


def evaluate_lora_ttt(
    model: GPT,
    ledger: ScoreLedger,
    config: TTTConfig,
    *,
    seq_len: int,
    stride: int,
    batch_seqs: int,
    progress: Callable[[int, int], None],
) -> int:
    """Score the whole stream by documents, learning on the way. Returns the number of chunks; `model` is as before.
    `stride` and `batch_seqs` belong to evaluations by windows: here a batch is `config.lora_documents` documents."""
    documents = ledger.documents()
    batches = document_batches(documents, config.lora_documents)[ledger.rank :: ledger.world]
    total, before = sum(stop - first for batch in batches for first, stop in batch), 0
    ledger.watch(model.parameters())
    with weights_frozen(model):
        for batch in batches:
            done = 0
            for done in score_documents(model, ledger, batch, config, seq_len):
                progress(before + done, total)
            before += done
    return sum(-(-(stop - first) // config.lora_chunk_tokens) for first, stop in documents)
