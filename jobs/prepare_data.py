"""`python jobs/prepare_data.py`: brings training data, verified and whole, or tells what is there.

python jobs/prepare_data.py --variant sp1024 --train-shards 80     # from the hub
python jobs/prepare_data.py --documents docs.jsonl --vocab 2048    # from documents, with a tokenizer of their own
python jobs/prepare_data.py --list                                 # what the hub has
python jobs/prepare_data.py --status                               # what is here, and whether it is whole
"""

import os
import typing
from pathlib import Path

import typer

from orchestrator.cli import run
from orchestrator.errors import UsageError
from orchestrator.options import Debug, Json

CODES = "Exit codes: 0 ok · 1 damaged data · 2 usage or bad input · 3 not complete · 5 hub or disk · 130 interrupted"

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})

FROM_HUB = ("variant", "train_shards", "with_docs", "repo", "revision")
FROM_DOCUMENTS = (
    "more", "vocab", "tokenizer", "name", "val_documents", "shard_tokens", "text_field", "skip_bad", "on", "address",
)  # fmt: skip
DOCUMENTS = "From documents"  # the options' heading in --help

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
    str, typer.Option(help="ray, or process: this one alone, without Ray.", rich_help_panel=DOCUMENTS)
]
Address = typing.Annotated[
    str | None,
    typer.Option(
        help="auto or HOST:PORT: a Ray cluster that this machine is a node of. Default: a Ray of its own.",
        rich_help_panel=DOCUMENTS,
    ),
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
    """

    def command() -> int:
        check_endpoint()
        from jobs.hub_data import fetch_data, show_published, show_status

        if list_ + status + bool(documents) > 1:
            raise UsageError("--list asks the hub, --status looks at what is here, --documents makes: give one of them")
        refuse_foreign(context, bool(documents))
        if status:
            return show_status(into, json)
        if documents:
            from jobs.documents_data import export_documents

            return export_documents(
                documents=(*documents, *(more or ())), into=into, tokenizer=tokenizer, vocab=vocab, name=name,
                val_documents=val_documents, shard_tokens=shard_tokens, text_field=text_field, skip_bad=skip_bad,
                on=on, workers=workers, address=address, as_json=json,
            )  # fmt: skip
        from golf_core.data.mending import PUBLISHED_REPO
        from golf_core.prepare.hub import FetchRequest

        request = FetchRequest(
            variant=variant, train_shards=train_shards, into=into, workers=8 if workers is None else workers,
            with_docs=with_docs, repo=repo or PUBLISHED_REPO, revision=revision,
        )  # fmt: skip
        return show_published(request, json) if list_ else fetch_data(request, json)

    run(debug, command)


def check_endpoint() -> None:
    """Before the hub's client is imported, which fails where HF_ENDPOINT is no URL. Raises UsageError."""
    from golf_core.prepare.endpoint import DEFAULT_ENDPOINT, shown_endpoint

    try:
        shown_endpoint(os.environ.get("HF_ENDPOINT", DEFAULT_ENDPOINT))
    except ValueError as error:
        raise UsageError(str(error)) from None


def refuse_foreign(context: typer.Context, from_documents: bool) -> None:
    """Options of the other source: raises UsageError for the first that was given."""
    for option in FROM_HUB if from_documents else FROM_DOCUMENTS:
        if str(context.get_parameter_source(option)).endswith("DEFAULT"):
            continue
        if option == "more":
            first = context.params["more"][0]
            raise UsageError(
                f"{first}: files and folders stand behind --documents, as in --documents {first} --vocab 2048"
            )
        flag = f"--{option.replace('_', '-')}"
        raise UsageError(
            f"{flag} is for what comes from the hub; leave it out, or --documents"
            if from_documents
            else f"{flag} is for shards made from documents; name those with --documents, or leave it out"
        )


if __name__ == "__main__":
    app()
