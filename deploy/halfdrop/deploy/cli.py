"""The command line: `halfdrop …`. Every command is a few lines over the client, the supervisor or the bundle.

Nothing heavy is imported before a command runs, so that `halfdrop --help` answers at once. Errors are one line on
stderr; the exit status says what kind (EXIT_…).
"""

import sys
from typing import Annotated

import typer

from halfdrop.contracts.errors import HalfdropError, InvalidInput, TransientError, Unavailable
from halfdrop.deploy.cli_batches import batch_app
from halfdrop.deploy.cli_forecast import forecast_app
from halfdrop.deploy.cli_jobs import jobs_app
from halfdrop.deploy.cli_keys import keys_app
from halfdrop.deploy.cli_models import models_app
from halfdrop.deploy.cli_patterns import preview, render
from halfdrop.deploy.cli_plan import plan_app
from halfdrop.deploy.cli_queue import queue_app
from halfdrop.deploy.cli_regions import regions_app
from halfdrop.deploy.cli_system import doctor, up
from halfdrop.deploy.cli_webhooks import webhooks_app

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_TRY_LATER = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

app = typer.Typer(
    name="halfdrop",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Seamless repeats for textiles, wallpaper and print: previews at once, print files from the hub.",
    epilog="Exit status: 0 done; 1 failed; 2 wrong input; 3 the edge is away or busy, try later; 130 interrupted.",
)
app.command()(preview)
app.command()(render)
app.add_typer(jobs_app)
app.add_typer(batch_app)
app.add_typer(queue_app)
app.command()(up)
app.command()(doctor)
app.add_typer(models_app)
app.add_typer(keys_app)
app.add_typer(webhooks_app)
app.add_typer(regions_app)
app.add_typer(plan_app)
app.add_typer(forecast_app)


def main() -> None:
    """Run the command line and exit."""
    try:
        app()
    except InvalidInput as error:
        _leave(EXIT_WRONG_INPUT, error.detail)
    except Unavailable as error:
        _leave(EXIT_TRY_LATER, f"{error.detail}; start one with `halfdrop up`, or name another with --url")
    except TransientError as error:
        _leave(EXIT_TRY_LATER, f"{error.detail}; try again in {error.retry_after_s:g} s")
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; Python would complain about flushing to it
        sys.exit(EXIT_BROKEN_PIPE)
    except (HalfdropError, TimeoutError) as error:
        _leave(EXIT_FAILED, str(error))
    except OSError as error:
        _leave(EXIT_FAILED, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        _leave(EXIT_INTERRUPTED, "interrupted")


def _leave(status: int, message: str) -> None:
    sys.stderr.write(f"halfdrop: {message}\n")
    sys.exit(status)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version  # noqa: PLC0415  25 ms that no other command needs

        typer.echo(f"halfdrop {version('halfdrop')}")
        raise typer.Exit


@app.callback()
def _root(
    is_version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options that stand before a command."""


if __name__ == "__main__":
    main()
