"""`python jobs/prepare_data.py`: brings training data, verified and whole, or tells what is there.

python jobs/prepare_data.py --variant sp1024 --train-shards 80     # from the hub
python jobs/prepare_data.py --documents docs.jsonl --vocab 2048    # from documents, with a tokenizer of their own
python jobs/prepare_data.py --list                                 # what the hub has
python jobs/prepare_data.py --status                               # what is here, and whether it is whole
python jobs/prepare_data.py --on modal --variant sp1024            # the same on Modal's data volume; so do
modal run jobs/prepare_data.py --variant sp1024                    # these, with every flag
"""

import os
import typing
from pathlib import Path

import typer

from orchestrator.backends.base import BackendError
from orchestrator.cli import run
from orchestrator.errors import BackendFailure, UsageError
from orchestrator.options import Debug, Json

if typing.TYPE_CHECKING:
    from jobs.modal_data import ModalData

CODES = "Exit codes: 0 ok · 1 damaged data · 2 usage or bad input · 3 not complete · 5 hub or disk · 130 interrupted"

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})

FROM_HUB = ("variant", "train_shards", "with_docs", "repo", "revision")
FROM_DOCUMENTS = (
    "more", "vocab", "tokenizer", "name", "val_documents", "shard_tokens", "text_field", "skip_bad", "address",
)  # fmt: skip
FOR_MODAL = ("upload", "check", "secret")
MODAL = "modal"
ENTRY = "modal_run"
DOCUMENTS, ON_MODAL = "From documents", "On Modal"  # headings in --help

More = typing.Annotated[
    list[Path] | None, typer.Argument(metavar="FILE|FOLDER", help="Behind --documents FILE: more of them.")
]
Variant = typing.Annotated[str, typer.Option(help="Which tokenizer's shards; --list tells them.")]
TrainShards = typing.Annotated[int, typer.Option(help="How many, from the first on; 200 MB each.")]
Into = typing.Annotated[Path, typer.Option(help="Folder that gets datasets/ and tokenizers/.")]
Workers = typing.Annotated[
    int | None, typer.Option(help="Files that come at once (8); of documents: processes that encode (one a core).")
]
WithDocs = typing.Annotated[
    bool, typer.Option("--with-docs", help="Also the documents that the shards were made of (about 48 GB).")
]
Repo = typing.Annotated[str | None, typer.Option(help="Dataset repository of the hub. Default: the challenge's.")]
Revision = typing.Annotated[str | None, typer.Option(help="Commit, branch or tag. Default: the newest.")]
List = typing.Annotated[bool, typer.Option("--list", help="Show the variants of the hub, and stop.")]
Status = typing.Annotated[bool, typer.Option("--status", help="Check what is here, without a network.")]
Documents = typing.Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE|FOLDER",
        help="Make shards of these: JSONL (also .gz .xz .zst), Parquet, or text; in the order given. Repeatable.",
        rich_help_panel=DOCUMENTS,
    ),
]
Vocab = typing.Annotated[
    int | None, typer.Option(help="Train a tokenizer of so many pieces on them.", rich_help_panel=DOCUMENTS)
]
Tokenizer = typing.Annotated[
    Path | None, typer.Option(help="Or use this SentencePiece .model file.", rich_help_panel=DOCUMENTS)
]
Name = typing.Annotated[
    str | None,
    typer.Option(help="Of the data folder. Default: the first file's name and _spN.", rich_help_panel=DOCUMENTS),
]
ValDocuments = typing.Annotated[int, typer.Option(help="The first so many are validation.", rich_help_panel=DOCUMENTS)]
ShardTokens = typing.Annotated[
    int, typer.Option(help="Tokens a shard; the last of a split holds the rest.", rich_help_panel=DOCUMENTS)
]
TextField = typing.Annotated[
    str, typer.Option(help="Which field, or column, holds the text.", rich_help_panel=DOCUMENTS)
]
SkipBad = typing.Annotated[
    bool, typer.Option("--skip-bad", help="Leave out what is no document, and count it.", rich_help_panel=DOCUMENTS)
]
On = typing.Annotated[
    str,
    typer.Option(help="modal: fill Modal's data volume. For documents: ray, or process (this one alone, without Ray)."),
]
Address = typing.Annotated[
    str | None,
    typer.Option(
        help="auto or HOST:PORT: a Ray cluster that this machine is a node of. Default: a Ray of its own.",
        rich_help_panel=DOCUMENTS,
    ),
]
Upload = typing.Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Send this data folder.", rich_help_panel=ON_MODAL)
]
Check = typing.Annotated[
    str | None, typer.Option(metavar="NAME", help="Read all of a folder there again.", rich_help_panel=ON_MODAL)
]
Secret = typing.Annotated[
    str | None, typer.Option(help="A modal.Secret by name, which holds HF_TOKEN.", rich_help_panel=ON_MODAL)
]


@app.command(no_args_is_help=True, epilog=CODES)
def prepare_data(
    context: typer.Context,
    more: More = None,
    variant: Variant = "sp1024",
    train_shards: TrainShards = 80,
    into: Into = Path("data"),
    workers: Workers = None,
    with_docs: WithDocs = False,
    repo: Repo = None,
    revision: Revision = None,
    list_: List = False,
    status: Status = False,
    documents: Documents = None,
    vocab: Vocab = None,
    tokenizer: Tokenizer = None,
    name: Name = None,
    val_documents: ValDocuments = 50_000,
    shard_tokens: ShardTokens = 100_000_000,
    text_field: TextField = "text",
    skip_bad: SkipBad = False,
    on: On = "ray",
    address: Address = None,
    upload: Upload = None,
    check: Check = None,
    secret: Secret = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Bring the published FineWeb export: the whole validation split, the first train shards, their tokenizer.

    Sizes and hashes are checked, and nothing half-made is ever seen. An interrupted command goes on where it was when
    it is given again. The hub is Hugging Face's, or HF_ENDPOINT's; HF_TOKEN is sent where it is set.

    \b
    python jobs/prepare_data.py --list
    python jobs/prepare_data.py --variant sp1024 --train-shards 10
    python jobs/prepare_data.py --documents docs.jsonl more/ --vocab 2048
    python jobs/prepare_data.py --status
    python jobs/prepare_data.py --on modal --variant sp1024
    """

    def command() -> int:
        try:
            return work()
        except BackendError as error:
            raise BackendFailure(str(error)) from error

    def work() -> int:
        check_endpoint()
        from jobs.hub_data import fetch_data, show_published, show_status, show_whole

        if list_ + status + bool(documents) + (upload is not None) + (check is not None) > 1:
            raise UsageError(
                "--list asks the hub, --status looks at what is here, --documents makes, --upload sends, --check reads "
                "again: give one of them"
            )
        refuse_foreign(context)
        if documents:
            from jobs.documents_data import export_documents

            place = on_modal(secret, json) if on == MODAL else None
            return export_documents(
                documents=(*documents, *(more or ())), into=into, tokenizer=tokenizer, vocab=vocab, name=name,
                val_documents=val_documents, shard_tokens=shard_tokens, text_field=text_field, skip_bad=skip_bad,
                on=on if place is None else "ray", workers=workers, address=address,
                show=(lambda folder: show_whole(folder, json)) if place is None else place.send,
            )  # fmt: skip
        if on == MODAL and status:
            return on_modal(secret, json).show()
        if on == MODAL and upload is not None:
            return on_modal(secret, json).send(upload)
        if on == MODAL and check is not None:
            return on_modal(secret, json).check(check)
        if status:
            return show_status(into, json)
        from golf_core.data.mending import PUBLISHED_REPO
        from golf_core.prepare.hub import FetchRequest

        request = FetchRequest(
            variant=variant, train_shards=train_shards, into=into, workers=8 if workers is None else workers,
            with_docs=with_docs, repo=repo or PUBLISHED_REPO, revision=revision,
        )  # fmt: skip
        if list_:
            return show_published(request, json)
        return on_modal(secret, json).fill_from_hub(request) if on == MODAL else fetch_data(request, json)

    run(debug, command)


def on_modal(secret: str | None, as_json: bool) -> "ModalData":
    """Raises CommandError where there is no token, or no server."""
    from jobs.modal_data import open_data

    return open_data(secret, as_json)


def check_endpoint() -> None:
    """Before the hub's client is imported, which fails where HF_ENDPOINT is no URL. Raises UsageError."""
    from golf_core.prepare.endpoint import DEFAULT_ENDPOINT, shown_endpoint

    try:
        shown_endpoint(os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT))
    except ValueError as error:
        raise UsageError(str(error)) from None


def refuse_foreign(context: typer.Context) -> None:
    """Options of another source or place: raises UsageError for the first that was given."""
    given = [name for name in context.params if not str(context.get_parameter_source(name)).endswith("DEFAULT")]
    on, documents = context.params["on"], "documents" in given
    for option in (*FROM_DOCUMENTS, *FROM_HUB):
        if option not in given or (option in FROM_DOCUMENTS) == documents:
            continue
        if option == "more":
            first = context.params["more"][0]
            raise UsageError(
                f"{first}: files and folders stand behind --documents, as in --documents {first} --vocab 2048"
            )
        raise UsageError(
            f"{flag_of(option)} is for what comes from the hub; leave it out, or --documents"
            if documents
            else f"{flag_of(option)} is for shards made from documents; name those with --documents, or leave it out"
        )
    if "on" in given and on != MODAL and not documents:
        raise UsageError(f"--on {on} is for shards made from documents; --on modal fills Modal's data volume")
    if foreign := [name for name in FOR_MODAL if name in given and on != MODAL]:
        raise UsageError(f"{flag_of(foreign[0])} is for Modal's data volume: say --on modal, or leave it out")
    if on == MODAL and "into" in given and not documents:
        raise UsageError("--into is of this machine; with --on modal data goes to Modal's data volume: leave it out")
    what = next((name for name in ("upload", "check") if name in given), None)
    if what and (foreign := [name for name in FROM_HUB if name in given]):
        raise UsageError(f"{flag_of(foreign[0])} is for what comes from the hub; leave it out, or {flag_of(what)}")


def flag_of(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def __dir__() -> list[str]:
    """What `modal run` looks through: it finds its entry point, and nobody else waits for its package."""
    return [*globals(), ENTRY]


def __getattr__(name: str) -> object:
    if name != ENTRY:
        raise AttributeError(f"{__name__} has no {name}")
    from jobs.prepare_on_modal import modal_run

    return modal_run


if __name__ == "__main__":
    app()
