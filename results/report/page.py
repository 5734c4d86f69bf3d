"""The page: one HTML file that needs nothing else. Verdict first, then tables, then charts, then where it is from."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from results.dataset import data_line
from results.report.chart import Absent, Chart
from results.report.draw import inlined
from results.report.html import Markup, joined, table, tag
from results.report.subject import Subject, same_text
from results.report.theme import FONT, exchange_in_page, page_variables
from results.report.verdict import SIGNS, WORDS, claim, cost, judgement, warnings
from results.stats import mean
from results.tables import LEGEND, gate_cells, published_lines, seed_cells, spread_lines
from results.tables.ablation import ablation_table
from results.tables.render import cells_of

HERE = Path(__file__).resolve().parent
MAX_SEEDS_IN_TITLE = 10


def page(subjects: Sequence[Subject], charts: Sequence[Chart | Absent], drawings: Mapping[str, str]) -> str:
    """`drawings` are the SVGs of `charts` by name."""
    script = Markup((HERE / "page.js").read_text(encoding="utf-8"))
    title = _title(subjects)
    sections = _one(subjects[0], charts, drawings) if len(subjects) == 1 else _several(subjects, charts, drawings)
    body = tag(
        "body",
        tag("a", "Skip to the report", href="#main", class_="skip"),
        tag(
            "header",
            tag("div", tag("h1", title), tag("p", _subtitle(subjects), class_="muted small")),
            tag("button", "Dark colours", type="button", id="theme", hidden=True),
        ),
        tag("main", _contents(sections), *(section for _, _, section in sections), id="main", tabindex="-1"),
        tag("footer", _footer()),
        tag("script", script),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title}: report"),
        tag("style", Markup(_style())),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _style() -> str:
    css = (HERE / "page.css").read_text(encoding="utf-8").replace("FONT", FONT)
    return f":root{{{page_variables()}}}\n{css}\n{exchange_in_page()}"


def _policy(script: str) -> str:
    """Nothing is loaded from anywhere, and no script but ours runs."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )


Section = tuple[str, str, Markup]  # id, title, content


def section(name: str, title: str, *content: object) -> Section:
    heading = tag("h2", title, id=f"{name}-title")
    return name, title, tag("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def _contents(sections: Sequence[Section]) -> Markup:
    links = [tag("li", tag("a", title, href=f"#{name}")) for name, title, _ in sections]
    return tag("nav", tag("ul", *links), aria_label="Contents")


def _title(subjects: Sequence[Subject]) -> str:
    spec = subjects[0].found.spec
    if len(subjects) > 1:
        return f"{subjects[0].label}, and {len(subjects) - 1} held against it"
    return " ".join([spec.recipe, *(f"--set {one}" for one in spec.overrides)])


def _subtitle(subjects: Sequence[Subject]) -> str:
    if len(subjects) > 1:
        policy = subjects[0].found.spec.policy_name
        return f"Policy {policy}. Differences are to the first submission, {subjects[0].label}."
    spec = subjects[0].found.spec
    seeds = [str(seed) for seed, _ in spec.runs]
    shown = ", ".join(seeds[:MAX_SEEDS_IN_TITLE]) + (
        f" and {len(seeds) - MAX_SEEDS_IN_TITLE} more" if len(seeds) > MAX_SEEDS_IN_TITLE else ""
    )
    return f"Submission {spec.folder.name}. Seed{'' if len(seeds) == 1 else 's'} {shown}. Policy {spec.policy_name}."


def _one(subject: Subject, charts: Sequence[Chart | Absent], drawings: Mapping[str, str]) -> list[Section]:
    spec, rows = subject.found.spec, subject.found.rows
    lines = [*published_lines(spec, rows), *spread_lines(rows)]
    return [
        section("verdict", "Verdict", _verdict(subject), _gates(subject, "Gates")),
        section(
            "seeds",
            "Seeds",
            _seeds(subject, "Every registered seed"),
            *(tag("p", line, class_="small") for line in lines),
            tag("p", LEGEND, class_="small muted"),
        ),
        section("charts", "Charts", _charts(charts, drawings)),
        section("evidence", "Evidence", _evidence(subject)),
    ]


def _several(
    subjects: Sequence[Subject], charts: Sequence[Chart | Absent], drawings: Mapping[str, str]
) -> list[Section]:
    told: list[Sequence[object]] = [("Submission", "Claim", "Gates")]
    for one in subjects:
        scores = [bpb for _, bpb in one.claimed]
        said = f"{mean(scores):.5f} BPB, n={len(scores)}" if scores else "nothing"
        told.append([one.label, said, _word(judgement(one)[0])])
    different = [one.label for one in subjects if not same_text(one, subjects[0])]
    note = f"Other data than {subjects[0].label}: {', '.join(different)}. Their scores do not compare."
    ablation = ablation_table([one.found.rows for one in subjects], 0)
    sections = [
        section(
            "verdict",
            "Verdict",
            _warnings(_shared_warnings(subjects)),
            tag("p", note, class_="claim") if different else "",
            table(told, "Claims and gates of each submission", numeric_from=9),
        ),
        section(
            "variants",
            "Variants",
            table(cells_of(ablation.columns, ablation.records), ablation.title),
            *(tag("p", line, class_="small muted") for line in ablation.notes),
        ),
        section("charts", "Charts", _charts(charts, drawings)),
    ]
    for index, one in enumerate(subjects, 1):
        content = [
            _sentence(one),
            _seeds(one, f"Seeds of {one.label}"),
            *(tag("p", line, class_="small") for line in spread_lines(one.found.rows)),
            tag("details", tag("summary", f"Gates and evidence of {one.label}"), _gates(one, "Gates"), _evidence(one)),
        ]
        sections.append(section(f"submission-{index}", one.label, *content))
    return sections


def _shared_warnings(subjects: Sequence[Subject]) -> list[str]:
    """Those of all submissions once, the others with the submission that they are about."""
    told = [warnings(one) for one in subjects]
    shared = [line for line in told[0] if all(line in lines for lines in told)]
    own = [
        f"{one.label}: {line}"
        for one, lines in zip(subjects, told, strict=True)
        for line in lines
        if line not in shared
    ]
    return [*shared, *own]


def _word(verdict: str) -> Markup:
    """A verdict as sign, word and colour."""
    sign = tag("span", SIGNS[verdict], class_="sign", aria_hidden="true")
    return tag("span", sign, " ", WORDS[verdict], class_=f"gate {verdict}")


def _warnings(lines: Sequence[str]) -> Markup:
    return tag("ul", *(tag("li", line) for line in lines), class_="warnings") if lines else Markup("")


def _sentence(subject: Subject) -> Markup:
    verdict, told = judgement(subject)
    sign = tag("span", SIGNS[verdict], class_="sign", aria_hidden="true")
    word = tag("strong", f"{WORDS[verdict].capitalize()}: ")
    return joined(
        [
            tag("p", claim(subject), class_="claim"),
            tag("p", tag("span", sign, class_=verdict), tag("span", word, told), class_="verdict"),
        ]
    )


def _verdict(subject: Subject) -> Markup:
    return joined([_warnings(warnings(subject)), _sentence(subject)])


def _gates(subject: Subject, caption: str) -> Markup:
    head, *rows = gate_cells(subject.found.gates)
    cells: list[list[object]] = [[head[0], head[-1], *head[1:-1]]]  # the verdict first: a phone shows two columns
    for row, gate in zip(rows, subject.found.gates, strict=True):
        cells.append([row[0], _word(gate.verdict), *row[1:-1]])
    return table(cells, f"{caption} of policy {subject.found.spec.policy_name}", numeric_from=2)


def _seeds(subject: Subject, caption: str) -> Markup:
    return tag("div", table(seed_cells(subject.found.rows), caption), class_="seeds")


def _charts(charts: Sequence[Chart | Absent], drawings: Mapping[str, str]) -> Markup:
    figures = [_figure(one, drawings[one.name]) for one in charts if isinstance(one, Chart)]
    missing = [one for one in charts if isinstance(one, Absent)]
    reasons = [tag("li", tag("strong", f"{one.title}: "), one.reason) for one in missing]
    return joined(
        [
            tag("div", *figures, class_="charts"),
            joined([tag("h3", "Not drawn"), tag("ul", *reasons, class_="small")]) if missing else "",
        ]
    )


def _figure(chart: Chart, svg: str) -> Markup:
    label = f"{chart.name}-label"
    data = table([chart.columns, *chart.rows], f"{chart.title}: the data", hidden_caption=True)
    return tag(
        "figure",
        tag("h3", chart.title, id=f"{chart.name}-heading"),
        Markup(inlined(svg, chart.name, label)),
        tag("p", chart.alternative, id=label, class_="unseen"),
        tag("figcaption", chart.caption),
        tag("details", tag("summary", "Data", tag("span", f" of {chart.title}", class_="unseen")), data),
        aria_labelledby=f"{chart.name}-heading",
        id=f"chart-{chart.name}",
    )


def _evidence(subject: Subject) -> Markup:
    found = subject.found
    spec = found.spec
    hardware = sorted({row.hardware for row in found.rows if row.hardware})
    facts = [
        ("Submission", spec.submission_id),
        ("Code", f"sha256 {spec.bundle_sha256}"),
        ("Data", data_line(found.rows, spec.data_name).removeprefix("Data: ")),
        ("Target", spec.target_class + (f" ({'; '.join(hardware)})" if hardware else "")),
        ("Cost", cost(subject)),
        ("Registered", spec.registered_at or "not known"),
        ("Counted attempts", ", ".join(str(row.attempt_id) for row in subject.counted) or "none"),
    ]
    listed = tag("dl", *(joined([tag("dt", name), tag("dd", value)]) for name, value in facts))
    notes = tag("ul", *(tag("li", note) for note in subject.notes), class_="small") if found.notes else Markup("")
    return joined([listed, notes])


def _footer() -> Markup:
    return tag(
        "p",
        "Every number is from sealed, counted attempts, whose hashes were checked when this page was made. "
        "The page loads nothing and needs no network.",
    )
