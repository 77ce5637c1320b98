"""Everything from nothing to a measured bundle: `python -m halfdrop.models.house.make_bundle`, or `make train`.

Teacher, student, judge, export, evaluation, contact sheet, in this order; about fifty minutes on two idle cores.
An interrupted run goes on where it stopped with `--resume`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from halfdrop.models.bundle import shipped_bundle_dir
from halfdrop.models.house.classifier import JUDGE_FILE, load_judge, save_judge, train_classifier
from halfdrop.models.house.contact_sheet import draw_contact_sheet
from halfdrop.models.house.distil import distil
from halfdrop.models.house.export_bundle import export_bundle, record_gates
from halfdrop.models.house.gates.goals import refuse_broken
from halfdrop.models.house.gates.suite import evaluate
from halfdrop.models.house.report import say
from halfdrop.models.house.settings import DistillationSettings, TrainingSettings
from halfdrop.models.house.train import train

CONTACT_SHEET = "contact-24.png"
JUDGE_MINUTES = 4.0


def make_bundle(run: Path, out: Path, teacher: TrainingSettings, student: DistillationSettings, resumes: bool) -> None:
    """Train what is missing in `run`, write the bundle to `out`, and put its figures into its manifest."""
    say(f"1/5 teacher, {teacher.minutes:g} minutes")
    train(teacher, run, resumes)
    say(f"2/5 student, {student.minutes:g} minutes")
    distil(student, run)
    judge = out.parent / JUDGE_FILE
    say("3/5 judge")
    if not judge.exists():
        judge.parent.mkdir(parents=True, exist_ok=True)
        save_judge(train_classifier(JUDGE_MINUTES), judge)
    say("4/5 export")
    digest = export_bundle(run, out)
    say("5/5 evaluation")
    figures = evaluate(out, load_judge(judge), on_progress=say)
    refuse_broken(figures)
    record_gates(out, figures)
    draw_contact_sheet(out, run / CONTACT_SHEET)
    say(json.dumps({"bundle": digest, **figures}))


def main() -> None:
    """Read the command line and make the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=TrainingSettings().minutes, help="for the teacher")
    parser.add_argument("--distil-minutes", type=float, default=DistillationSettings().minutes)
    parser.add_argument("--processes", type=int, default=TrainingSettings().processes)
    parser.add_argument("--run", type=Path, default=Path("data/house-training"), help="checkpoints and logs")
    parser.add_argument("--out", type=Path, default=shipped_bundle_dir(), help="where the bundle goes")
    parser.add_argument("--start-from", default="", help="bundle whose weights to begin with; empty begins with none")
    parser.add_argument("--peak-rate", type=float, default=1.0, help="of the learning rates; less after --start-from")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --run")
    chosen = parser.parse_args()
    make_bundle(
        chosen.run,
        chosen.out,
        TrainingSettings(
            minutes=chosen.minutes,
            processes=chosen.processes,
            start_from=chosen.start_from,
            peak_rate=chosen.peak_rate,
        ),
        DistillationSettings(minutes=chosen.distil_minutes, processes=chosen.processes),
        chosen.resume,
    )


if __name__ == "__main__":
    main()
