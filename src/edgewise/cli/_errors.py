"""From errors to sentences and exit codes. No traceback reaches a user unless EDGEWISE_DEBUG is set."""

from __future__ import annotations

import errno
import os
import sys

import typer

FAILED, USAGE, NOT_NOW = 1, 2, 4


def run(app: typer.Typer, arguments: list[str] | None) -> int:
    """Run the application; comes back with the exit code."""
    try:
        app(args=arguments, standalone_mode=True, prog_name="edgewise")
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else FAILED if leave.code else 0
    except KeyboardInterrupt:
        say("stopped by the keyboard")
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if os.environ.get("EDGEWISE_DEBUG"):
            raise
        return explain(error)
    return 0


def explain(error: Exception) -> int:
    """Say in one sentence what went wrong; comes back with the exit code."""
    from edgewise.wire.errors import EdgewiseError

    if isinstance(error, EdgewiseError):
        say(str(error))
        return error.exit_code
    if isinstance(error, OSError):
        what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            say(f"no space left ({what}); free some space or choose another folder, then run the command again")
            return NOT_NOW
        say(what)
        return FAILED
    if isinstance(error, ModuleNotFoundError):
        extras = "pip install 'edgewise[hub,learn,vision]'"
        say(f"the Python package {error.name} is missing; install what this command needs: {extras}")
        return FAILED
    say(f"an error that edgewise did not expect: {type(error).__name__}: {error} (set EDGEWISE_DEBUG=1 to see where)")
    return FAILED


def say(text: str) -> None:
    """One line for people on the error stream."""
    print(f"edgewise: {text}", file=sys.stderr)  # noqa: T201 – the command line is where printing belongs
