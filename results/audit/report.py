"""The verdict on one source, and how it is written: JSON, a review comment, a line of a table.

Everything in it comes from a foreign file and is printed as plain text.
"""

import re
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from results.audit.finding import FAIL, PASS, REVIEW, RULES, Finding, gravest
from results.untrusted import plain

SCHEMA_VERSION = 1
CAVEAT = (
    "Static triage: it reads the code and runs none of it. Legality is not a property of a file: the same code is "
    "legal or not with its configuration, its data and the number that is claimed. A pass means that no violation was "
    "found by the checks that are listed, never that a submission is legal; a fail is to be confirmed by a person."
)
PENDING = (
    "dynamic probes: causality, normalisation, document isolation, adaptation off (results audit SUBMISSION --probe)",
    "recount of the bytes and of the coverage by an independent decoder (results verify --recount)",
    "replay from the artifact alone, without network (results verify --replay)",
    "data: train and validation documents apart, complete validation set",
    "logs: time, size, seeds, and the claimed score (results audit FILE --log LOG; results parse)",
)
MEANINGS = {
    "S1": "validation tokens reach the weights before they are scored",
    "S2": "code that the resolved configuration reaches",
    "S3": "passes over validation of which one is reported",
    "S4": "guards of scoring, informational",
    "S5": "a key, gate or mixture that depends on the target",
    "S6": "the score is a log-softmax over the full vocabulary",
    "S7": "parameters fitted on the window that is scored",
    "S8": "positions scored a second time",
    "S9": "bytes of tokens",
    "S10": "network, files and environment",
    "S11": "clocks",
}


@dataclass(frozen=True)
class Audited:
    """One source and what was found in it."""

    file: str
    findings: tuple[Finding, ...]
    sha256: str | None = None  # of the file as it is; None where it could not be read
    bytes: int | None = None
    main: str = ""  # the piece that runs
    run: str | None = None
    analysed: bool = True  # False: refused, so that no rule can be told
    logs: tuple[Finding, ...] = ()  # from logs, apart from what the source says
    smoke: dict[str, typing.Any] | None = None

    @property
    def verdict(self) -> str:
        return gravest((*self.findings, *self.logs))

    def rules(self) -> dict[str, str]:
        """The verdict of every static rule; review for all of them where the source could not be analysed."""
        if not self.analysed:
            return dict.fromkeys(RULES, REVIEW)
        return {rule: gravest(one for one in self.findings if one.rule == rule) for rule in RULES}

    def to_dict(self) -> dict[str, typing.Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "file": plain(self.file, 1000),
            "verdict": self.verdict,
            "verdict_of_source": gravest(self.findings),
            "findings": [_told(one) for one in (*self.findings, *self.logs)],
            "rules": self.rules(),
            "sha256": self.sha256,
            "bytes": self.bytes,
            "piece": plain(self.main, 1000),
            "run": None if self.run is None else plain(self.run, 1000),
            "smoke": self.smoke,
            "pending": self.pending(),
            "caveat": CAVEAT,
        }

    def pending(self) -> list[str]:
        """What was not checked, and by which command it would be."""
        return [one for one in PENDING if not (self.logs and one.startswith("logs:"))]


def _told(one: Finding) -> dict[str, typing.Any]:
    """A finding for JSON; what is foreign in it is one printable line."""
    return {name: plain(value, 600) if isinstance(value, str) else value for name, value in asdict(one).items()}


def quoted(text: str, limit: int = 160) -> str:
    """A foreign text as inline code of Markdown, which it cannot leave."""
    said = plain(text, limit)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", said)), default=0))
    return f"{ticks} {said} {ticks}" if "`" in said else f"`{said}`"


def escaped(text: str, limit: int = 400) -> str:
    """A sentence for Markdown in which nothing of a foreign text becomes a heading, a link, a mention or HTML."""
    said = re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", plain(text, limit))
    return said.replace("@", "@\u200b").replace("://", ":\u200b//")


def _place(one: Finding) -> str:
    return plain(one.file, 100) if one.line is None else f"{plain(one.file, 100)}:{one.line}"


def markdown(found: Audited) -> str:
    """A review comment."""
    lines = [f"## Audit of {quoted(found.file)}", ""]
    lines.append(f"**Verdict: {found.verdict.upper()}** {_headline(found)}")
    lines.append("")
    if found.sha256 is not None:
        lines.append(f"Source: sha256 `{found.sha256}`, {found.bytes:,} bytes; what runs is {quoted(found.main)}.")
    if found.run is not None:
        lines.append(f"Configuration: defaults of the source, with {quoted(found.run, 400)}.")
    grave = [one for one in (*found.findings, *found.logs) if one.verdict != PASS]
    lines += ["", "### Found", ""] if grave else []
    for one in grave:
        lines.append(f"- **{one.verdict.upper()}** {one.rule} at {quoted(_place(one))} ({escaped(one.authority)})")
        lines.append(f"  {escaped(one.says)}")
        if one.evidence:
            lines.append(f"  {quoted(one.evidence)}")
    noted = [one for one in (*found.findings, *found.logs) if one.verdict == PASS]
    if noted:
        lines += ["", "### Noted, no objection", ""]
        lines += [f"- {one.rule} at {quoted(_place(one))}: {escaped(one.says)}" for one in noted]
    lines += ["", "### Rules", "", "| rule | what | verdict |", "| --- | --- | --- |"]
    lines += [f"| {rule} | {MEANINGS[rule]} | {verdict} |" for rule, verdict in found.rules().items()]
    if found.smoke is not None:
        lines += ["", "### Imported on a CPU", ""]
        lines += [f"- {escaped(one)}" for one in smoke_lines(found.smoke)]
    lines += ["", "### Not checked here", "", *[f"- {one}" for one in found.pending()], "", f"> {CAVEAT}", ""]
    return "\n".join(lines)


def smoke_lines(told: typing.Mapping[str, typing.Any]) -> list[str]:
    """What an import on a CPU told, as results.replay.smoke reports it."""
    if told["imported"]:
        cpu = "" if told["import_cpu_seconds"] is None else f", {told['import_cpu_seconds']:.1f} s of them computing"
        lines = [f"imported in {told['import_seconds'] or 0:.1f} s{cpu}"]
    else:
        lines = [f"not imported: {told['error']}"]
    shape = [
        f"{what} {told[what]} ({told['found_in'].get(what, 'not told where')})"
        if told[what] is not None
        else f"{what} not found"
        for what in ("width", "layers", "vocabulary")
    ]
    lines += ["; ".join(shape), f"code: {told['code_bytes']:,} bytes"]
    for name, words in (("stand_ins", "packages that are not here"), ("outside", "asked for"), ("network", "network")):
        if told[name]:
            lines.append(f"{words}: {', '.join(map(str, told[name]))}")
    return [*lines, f"sandbox: {told['sandbox']}"]


def _headline(found: Audited) -> str:
    return {
        PASS: f"no violation found by the checks {RULES[0]} to {RULES[-1]}",
        REVIEW: "a person has to look at what is listed",
        FAIL: "a rule seems to be broken; confirm it at the lines that are listed",
    }[found.verdict]


def table(many: Sequence[Audited]) -> str:
    """One line a file, and below it what was found, for the eye."""
    lines = []
    for found in many:
        digest = found.sha256[:12] if found.sha256 else "-" * 12
        lines.append(f"{found.verdict:<7}{digest}  {plain(found.file)}")
        for one in (*found.findings, *found.logs):
            if one.verdict != PASS:
                lines.append(f"         {one.rule:<7}{one.verdict:<7}{_place(one)}: {plain(one.says, 400)}")
        if found.smoke is not None:
            lines += [f"         {plain(one)}" for one in smoke_lines(found.smoke)]
    return "\n".join(lines) + "\n"
