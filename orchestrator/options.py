"""The options of the command line, by the names of their parameters in cli.py: first those of several commands."""

import typing
from pathlib import Path

import typer

RunsDir = typing.Annotated[str | None, typer.Option(help="Folder of ledger, attempts and outputs. Default: runs.")]
Prefix = typing.Annotated[
    str | None, typer.Argument(help="Submission id, its beginning, or a grid. Default: what runs, else the latest.")
]
DataFolder = typing.Annotated[str | None, typer.Option(help="Folder of shards. Default: the embedded corpus.")]
Tokenizer = typing.Annotated[
    str | None,
    typer.Option(help="SentencePiece model that made the shards. Default: the one that DATA's manifest names."),
]
Address = typing.Annotated[
    str | None,
    typer.Option(metavar="URL", help="A Ray cluster's job server, as in http://127.0.0.1:8265; auto on its head."),
]
OnThere = typing.Annotated[
    str | None, typer.Option("--on", help="modal: one that was sent there from another machine, or runs folder.")
]
Insecure = typing.Annotated[
    bool, typer.Option("--insecure", help="Talk to a job server without a token over a network that others see.")
]
StateDir = typing.Annotated[str | None, typer.Option(help="Folder on the cluster's head. Default: ~/golf-runs.")]
Json = typing.Annotated[bool, typer.Option("--json", help="One JSON object on stdout, with schema_version.")]
Quiet = typing.Annotated[bool, typer.Option("-q", "--quiet", help="Only the submission id on stdout.")]
Debug = typing.Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]
Sets = typing.Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Override a field of the recipe; repeatable.")
]

# Of submit alone, in the order of its --help.
Seeds = typing.Annotated[str | None, typer.Option(help="Seeds in order. Default: 1337,42,2025.")]
Recipe = typing.Annotated[
    str | None,
    typer.Option(help="Recipe or grid: a name, or ./mine.py:function. Default: demo; with cuda legal_ttt."),
]
On = typing.Annotated[
    str | None, typer.Option(help="process, ray (local, or a cluster by --address), or modal. Default: ray.")
]
Policy = typing.Annotated[
    str | None,
    typer.Option(help="A name, or a TOML file. Default: demo; with cuda exploration, on 8xH100 SXM record-2026-03."),
]
Device = typing.Annotated[str | None, typer.Option(help="cpu or cuda. Default: cpu; of a grid, its own.")]
Gpus = typing.Annotated[
    str | None, typer.Option(metavar="MODEL:COUNT", help="Of a seed, on one node: H100:8, any:1, or 0.")
]
MaxGpus = typing.Annotated[int | None, typer.Option(help="GPUs at a time, of all submits together.")]
NodeDir = typing.Annotated[str | None, typer.Option(help="Folder on each node. Default: ~/golf-node.")]
Storage = typing.Annotated[
    str | None, typer.Option(metavar="URI", help="Where sealed attempts are copied: file://, s3://, gs://.")
]
ModalPackages = typing.Annotated[
    str | None,
    typer.Option(metavar="NAME==VERSION", help="More packages for Modal's image, also NAME @ https://WHEEL; commas."),
]
ModalSecret = typing.Annotated[str | None, typer.Option(help="A modal.Secret by name, for the containers.")]
ModalEnvironment = typing.Annotated[str | None, typer.Option(help="Of the Modal account. Default: its client's.")]
Budget = typing.Annotated[float | None, typer.Option(help="USD that this runs folder may ever cost.")]
Price = typing.Annotated[float | None, typer.Option(help="USD an hour for the GPUs of a seed.")]
Provider = typing.Annotated[
    str | None, typer.Option(help="Whose GPUs these are, for their listed price: aws, lambda, modal, runpod.")
]
MaxAttempts = typing.Annotated[
    int | None, typer.Option(help="Attempts of a seed that may be paid for. Default: 3, the last two retries.")
]
DeadManSeconds = typing.Annotated[
    float | None, typer.Option(help="Most that an attempt may take in all. Default: its limits added up.")
]
Parallel = typing.Annotated[bool, typer.Option("--parallel", help="All seeds at once: no canary goes first.")]
Detach = typing.Annotated[
    bool,
    typer.Option(
        "--detach", help="On Modal: begin, print the id (of a grid, all ids), and leave; seeds begin each other."
    ),
]
NoRehearsal = typing.Annotated[
    bool, typer.Option("--no-rehearsal", help="Rent all GPUs at once, for code that never ran on one.")
]
InstallPackages = typing.Annotated[
    bool, typer.Option("--install-packages", help="Let Ray install our packages on the nodes.")
]
Grid = typing.Annotated[
    Path | None, typer.Option(metavar="FILE", help="Variants of a recipe, from a TOML file; see docs/recipes.md.")
]
Processes = typing.Annotated[
    int | None, typer.Option(help="A seed. Default: 2 with two cores, or one a GPU; of a grid, its own.")
]
Threads = typing.Annotated[int | None, typer.Option(help="Threads a process, on a CPU. Default: 1.")]
Dtype = typing.Annotated[str | None, typer.Option(help="bf16 or fp32. Default: what the CPU is fast at.")]
Launcher = typing.Annotated[str | None, typer.Option(help="torchrun, or python for one process alone.")]
StartupSeconds = typing.Annotated[float | None, typer.Option(help="Most before a first phase.")]
SilenceSeconds = typing.Annotated[float | None, typer.Option(help="Most without a line of output.")]
Bundle = typing.Annotated[
    Path | None, typer.Option(help="Run this train_gpt.py (an edited bundle) instead of the recipe's.")
]
Script = typing.Annotated[
    Path | None,
    typer.Option(help="Run this train_gpt.py of anybody's, unedited, instead of a recipe; see docs/scripts.md."),
]
Env = typing.Annotated[
    list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="For --script: a variable; repeatable.")
]
Artifact = typing.Annotated[
    str | None,
    typer.Option(metavar="GLOB", help="For --script: the file of weights that it leaves. Default: *.ptz and such."),
]
RetryFailed = typing.Annotated[bool, typer.Option("--retry-failed", help="Try failures of the code again.")]
DryRun = typing.Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
Yes = typing.Annotated[bool, typer.Option("-y", "--yes", help="No question; local runs ask none.")]
