"""What the tests of script runs share: the monolith in each dialect, told to misbehave; attempts and submits of it."""

import re
from pathlib import Path

from orchestrator.attempts import create
from orchestrator.script import Script
from tests.orchestrator.toy import limits, submission

MONOLITH = (Path(__file__).parent / "monolith.py").read_text(encoding="utf-8")
DIALECTS = ("old", "new", "pairs", "stamped")


def monolith(dialect="old", behaviour=None):
    text = re.sub(r'^DIALECT = "old"', f'DIALECT = "{dialect}"', MONOLITH, count=1, flags=re.MULTILINE)
    return text.replace("BEHAVIOUR = {}", f"BEHAVIOUR = {behaviour or {}!r}", 1)


def script_folder(tmp_path, corpus, text=MONOLITH, env=(), artifact=None, given_limits=None, number=1, **kwargs):
    """A script's attempt as the controller lays it down."""
    import dataclasses

    from orchestrator.spec import Data

    data = Data(
        path=corpus["data_path"],
        sha256=corpus["data_sha256"],
        tokenizer_path=corpus["tokenizer_path"],
        tokenizer_sha256=corpus["tokenizer_sha256"],
    )
    script = Script(name="train_gpt.py", env=tuple(env), artifact=artifact)
    asked = dataclasses.replace(submission(text, **kwargs), script=script, data=data, config={})
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir(exist_ok=True)
    return create(runs_dir, asked.run_json(asked.runs[0], number, given_limits or limits()), asked.bundle)
