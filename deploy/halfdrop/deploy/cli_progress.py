"""Waiting at a terminal: a bar while an order is worked on, and one for each file fetched.

Bars go to stderr, and only to a terminal: a log file wants lines, not redrawn ones.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from halfdrop.contracts.errors import PermanentError

if TYPE_CHECKING:
    from halfdrop.edge.client import HalfdropClient
    from halfdrop.edge.client_answers import Batch, Prediction

STEPS_MAX = 4096
"""A total up to this counts steps; a larger one counts bytes."""


def follow(client: "HalfdropClient", prediction: "Prediction") -> "Prediction":
    """Show a progress bar until an order is final, and return it then. Raises as `watch` does."""
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with _open_bar(*columns) as bar:
        task = bar.add_task("waiting", total=None)
        for seen in client.watch(prediction.id):
            prediction = seen
            stage = seen.progress.stage or ("waiting" if seen.status == "starting" else seen.status)
            bar.update(task, description=stage, completed=seen.progress.step, total=seen.progress.steps or None)
    return prediction


def follow_batch(client: "HalfdropClient", batch: "Batch") -> "Batch":
    """Show a bar of a batch's lines until it is over, and return it then. Raises as `watch` does."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TextColumn("{task.fields[left]:>12}"),
        TimeElapsedColumn(),
    )
    with _open_bar(*columns) as bar:
        counts = batch.counts
        task = bar.add_task("waiting", total=counts.total - counts.refused, left="")
        for seen in client.batches.watch(batch.id):
            batch, counts = seen, seen.counts
            left = "" if batch.eta_seconds is None else f"{batch.eta_seconds:.0f} s left"
            ended = counts.completed + counts.failed + counts.canceled
            bar.update(task, description=batch.status, completed=ended, left=left)
    return batch


def check_succeeded(prediction: "Prediction") -> None:
    """Raise PermanentError with the reason unless the order brought its files."""
    if prediction.status == "failed":
        detail = f"order {prediction.id} failed: {prediction.error or 'no reason given'}"
        raise PermanentError(detail, code="job-failed")
    if prediction.status != "succeeded":
        detail = f"order {prediction.id} has no files: it is {prediction.status}"
        raise PermanentError(detail, code=f"job-{prediction.status}")


def fetch(client: "HalfdropClient", prediction: "Prediction", targets: dict[str, Path]) -> None:
    """Write files of a finished order, by name, to their places, and say so of each."""
    for name, path in targets.items():
        with _open_bar(TextColumn("{task.description}"), BarColumn(), DownloadColumn()) as bar:
            task = bar.add_task(name, total=None)
            client.download(prediction, name, path, on_progress=partial(_advance, bar, task))
        typer.echo(f"{path}  {path.stat().st_size / 1e6:.2f} MB", err=True)


@contextmanager
def show_stages() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function to be told (stage, done, total) again and again: one bar, which begins anew with each stage."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[amount]:>20}"),
        TimeElapsedColumn(),
    )
    with _open_bar(*columns) as bar:
        task = bar.add_task("", total=None, amount="")
        current = ""

        def tell(stage: str, done: int, total: int) -> None:
            nonlocal current
            if stage != current:
                bar.reset(task, description=stage, total=total)
                current = stage
            is_steps = total <= STEPS_MAX
            amount = f"{done} of {total}" if is_steps else f"{done / 1e6:,.1f} of {total / 1e6:,.1f} MB"
            bar.update(task, completed=done, total=total, amount=amount)

        yield tell


def _advance(bar: Progress, task: TaskID, done_bytes: int, total_bytes: int | None) -> None:
    bar.update(task, completed=done_bytes, total=total_bytes)


def _open_bar(*columns: TextColumn | BarColumn | DownloadColumn | TimeElapsedColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
