"""From submissions to the report: which charts there are, the page, the files for a README, the object for JSON."""

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from golf_core.rundir import write_bytes
from results.report.budget import time_chart
from results.report.chart import Absent, Chart
from results.report.distances import forest_chart, record_chart
from results.report.draw import svg_of, write_files
from results.report.page import page
from results.report.scores import gain_chart, stages_chart
from results.report.sizes import bytes_chart, parts_chart
from results.report.subject import Subject
from results.report.training import loss_chart, step_time_chart, validation_chart
from results.report.variants import losses_chart, step_times_chart
from results.report.verdict import claim, cost, judgement, warnings
from results.tables import unscored

REPORT = "report.html"


def charts_of(subjects: Sequence[Subject]) -> list[Chart | Absent]:
    """In the order of the page."""
    if len(subjects) > 1:
        return [
            forest_chart(subjects),
            record_chart(subjects),
            bytes_chart(subjects),
            step_times_chart(subjects),
            losses_chart(subjects),
            time_chart(subjects),
        ]
    subject = subjects[0]
    return [
        stages_chart(subject),
        bytes_chart(subjects),
        loss_chart(subject),
        validation_chart(subject),
        gain_chart(subject),
        step_time_chart(subject),
        time_chart(subjects),
        parts_chart(subject),
        record_chart(subjects),
    ]


def drawings_of(charts: Sequence[Chart | Absent]) -> dict[str, str]:
    """The SVG of each chart by its name."""
    return {one.name: svg_of(one) for one in charts if isinstance(one, Chart)}


def write_page(
    subjects: Sequence[Subject], charts: Sequence[Chart | Absent], drawings: Mapping[str, str], path: Path
) -> None:
    text = page(subjects, charts, drawings)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode())


def write_charts(drawings: Mapping[str, str], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return [path for name, svg in drawings.items() for path in write_files(name, svg, folder)]


def report_object(subjects: Sequence[Subject], charts: Sequence[Chart | Absent]) -> dict[str, typing.Any]:
    """What the page says, for a program."""
    told = []
    for one in subjects:
        verdict, sentence = judgement(one)
        told.append(
            {
                "submission_id": one.found.spec.submission_id,
                "label": one.label,
                "policy": one.found.spec.policy_name,
                "diagnostic_only": one.found.diagnostic_only,
                "finished": one.found.finished and not unscored(one.found.rows),
                "claim": claim(one),
                "verdict": verdict,
                "judgement": sentence,
                "warnings": warnings(one),
                "cost": cost(one),
                "gates": [gate.to_dict() for gate in one.found.gates],
            }
        )
    return {"schema_version": 1, "submissions": told, "charts": [one.to_dict() for one in charts]}
