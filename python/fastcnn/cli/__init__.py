"""The command `fastcnn`: one module per sub-command, with `HELP`, `add_arguments(parser)` and `run(options)`.

Exit codes: 0 done, 1 an error (one line on stderr), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from fastcnn._version import __version__
from fastcnn.cli import bench, check_data, demo, doctor, evaluate, predict, selftest, summary, train
from fastcnn.cli.arguments import UsageError

_COMMANDS = {
    "demo": demo,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "summary": summary,
    "check-data": check_data,
    "doctor": doctor,
    "selftest": selftest,
    "bench": bench,
}
# What data, files and machines do wrong; anything else is a mistake in the program and keeps its traceback.
_RUN_ERRORS = (ArithmeticError, ImportError, MemoryError, OSError, RuntimeError, ValueError)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="fastcnn", description="Train and run convolutional image classifiers on CPUs.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"fastcnn {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the Python traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in _COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.HELP, allow_abbrev=False)
        module.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print JSON lines instead of text")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, that of the process by default, and return the exit code; wrong usage raises SystemExit."""
    options = make_parser().parse_args(argv)
    try:
        code: int = _COMMANDS[options.command].run(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"fastcnn {options.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`head`) has enough; without this Python complains when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _RUN_ERRORS as error:
        if options.debug:
            raise
        print(f"fastcnn {options.command}: {_one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return text or type(error).__name__
