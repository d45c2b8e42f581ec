"""The command line: which commands there are, and how every one of them ends.

Loads a command's module only when that command runs, so that help is there at once. Whatever goes wrong, a
person sees one or two plain lines and never a traceback, whose values may be a patient's.
"""

import difflib
import io
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click

from meshctl import __version__
from meshctl.errors import MeshctlError, is_closed_pipe
from meshctl.journal.masking import escape_unprintable, mask_numbers

PROGRAM = "meshctl"
DEBUG_VARIABLE = "MESHCTL_DEBUG"
EXIT_TROUBLE = 1
# What a shell reports for a program ended by SIGINT and by SIGPIPE.
_EXIT_INTERRUPTED = 130
_EXIT_BROKEN_PIPE = 141

_EPILOG = """\b
Begin with:
  meshctl demo                   see it work, in under a minute
  meshctl init /srv/mesh         make the folders and the settings
  meshctl -c FILE check          see whether everything is right
  meshctl -c FILE run            send what is dropped into the outbox

\b
The settings are those of -c FILE, else of $MESHCTL_CONFIG, else ./meshctl.toml,
else /etc/meshctl/meshctl.toml; on Windows %ProgramData% stands for /etc.
MESHCTL_SECTION__KEY in the environment overrides a key, for example
MESHCTL_LOG__LEVEL=DEBUG.

\b
Exit codes: 0 all is well, 1 trouble was found, 2 wrong usage or settings."""


@dataclass(frozen=True, slots=True)
class _Entry:
    module: str
    help: str


COMMANDS: dict[str, dict[str, _Entry]] = {
    "Set up": {
        "init": _Entry("init", "Make the folders and a commented settings file."),
        "check": _Entry("check", "Say whether everything is right, and what to do where it is not."),
        "demo": _Entry("demo", "Show a day of a mailbox in under a minute, on a copy of the sample."),
        "simulate": _Entry("simulate", "Stand in for MESH Client, MESH and practice, on the same folders."),
    },
    "Send": {
        "run": _Entry("run", "Send what is dropped into the outbox, and follow it."),
        "bridge": _Entry("bridge", "Serve the mailbox over the MESH API, in place of a MESH Client."),
        "service": _Entry("service", "Run the daemon as a Windows service."),
        "send": _Entry("send", "Put files into the outbox the safe way."),
        "reload": _Entry("reload", "Have the daemon read the settings again."),
        "resend": _Entry("resend", "Send a failed or undelivered message again."),
    },
    "Look": {
        "status": _Entry(
            "status", "Count messages by state; say what is overdue and whether the MESH Client is active."
        ),
        "list": _Entry("list", "List messages, newest first."),
        "show": _Entry("show", "Show one message and its history."),
        "find": _Entry("find", "Find the messages about a patient."),
        "logs": _Entry("logs", "Read the log."),
        "report": _Entry("report", "Write what became of a day's messages as one HTML page."),
    },
    "Explain": {
        "control": _Entry("control", "Print the control file that would be written; write nothing."),
        "lookup": _Entry("lookup", "Ask MESH for the mailboxes of an organisation."),
        "address": _Entry("address", "Print the routing string of a patient (To_DTS, Mex-To)."),
        "explain": _Entry("explain", "Say in plain words what a control file, report or code means."),
        "use-cases": _Entry("use_cases", "List the use cases in force."),
    },
}
"""The commands as help groups them."""


class CommandLine(click.Group):
    """The group of all commands; it turns every error into plain lines and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of help."""
        return [name for entries in COMMANDS.values() for name in entries if _entry(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return it."""
        entry = _entry(cmd_name)
        if entry is None:
            return None
        command = import_module(f"meshctl.commands.{entry.module}").command
        if not isinstance(command, click.Command):
            raise TypeError(f"meshctl.commands.{entry.module} has no click command named command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into the help text, from the table alone."""
        for title, entries in COMMANDS.items():
            rows = [(name, entry.help) for name, entry in entries.items() if _entry(name)]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_spacing=4)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the options before the command."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _end_usage(error)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name; suggest the nearest where there is none."""
        names = self.list_commands(ctx)
        near = difflib.get_close_matches(args[0], names, n=1)
        if near and args[0] not in names and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'. Did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors leave here as plain ones."""
        try:
            return super().invoke(ctx)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            _end_usage(error)
        except MeshctlError as error:
            _end(str(error), error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            click.echo(err=True)
            raise click.exceptions.Exit(_EXIT_INTERRUPTED) from None
        except OSError as error:
            if is_closed_pipe(error):
                _discard_output()
                raise click.exceptions.Exit(_EXIT_BROKEN_PIPE) from None
            if os.environ.get(DEBUG_VARIABLE):
                raise
            _end(_system_fault(error), EXIT_TROUBLE)


@click.command(
    cls=CommandLine,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The settings file, or $MESHCTL_CONFIG, ./meshctl.toml, /etc/meshctl/meshctl.toml.",
)
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM)
def cli(config: Path | None) -> None:
    """Drop a file into a folder; the right GP practice gets it over NHS MESH, and you can see that it did."""


def main() -> None:
    """Run the command line of this process and exit with its code."""
    sys.excepthook = report_unexpected
    for stream in (sys.stdout, sys.stderr):
        # A file name need not be text in the terminal's encoding; showing it must not fail.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
            if sys.platform == "win32" and not stream.isatty():
                # Who reads a pipe or file gets the bytes that they would get on any other system.
                reconfigure(encoding="utf-8", newline="\n")
    try:
        cli.main(prog_name=PROGRAM)
    except OSError as error:
        # Of help, which is printed before any command runs.
        if not is_closed_pipe(error):
            raise
        _discard_output()
        sys.exit(_EXIT_BROKEN_PIPE)
    finally:
        try:
            # A Windows service has none.
            if sys.stdout is not None:
                sys.stdout.flush()
        except OSError as error:
            if not is_closed_pipe(error):
                raise
            _discard_output()


def report_unexpected(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print on stderr where an unforeseen error happened, without its text or any value.

    With MESHCTL_DEBUG set the whole traceback is printed instead.
    """
    if os.environ.get(DEBUG_VARIABLE):
        sys.__excepthook__(kind, error, traceback)
        return
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = ""
    if traceback is not None:
        code = traceback.tb_frame.f_code
        where = (
            f" in {'/'.join(Path(code.co_filename).parts[-3:])}, line {traceback.tb_lineno} ({code.co_name})"
        )
    click.echo(
        f"{PROGRAM}: unexpected {kind.__name__}{where}. This is a fault of meshctl; please report it.\n"
        f"{DEBUG_VARIABLE}=1 in the environment shows all of it; mind that it may then show patient data.",
        err=True,
    )


def _entry(name: str) -> _Entry | None:
    for entries in COMMANDS.values():
        entry = entries.get(name)
        if entry is not None and find_spec(f"meshctl.commands.{entry.module}") is not None:
            return entry
    return None


def _end(text: str, exit_code: int) -> NoReturn:
    """Print on stderr what went wrong, and end the program."""
    click.echo(f"{PROGRAM}: {text}", err=True)
    raise click.exceptions.Exit(exit_code) from None


def _end_usage(error: click.UsageError) -> NoReturn:
    """Bring a usage error to two lines: what is wrong, and where the right usage is."""
    path = error.ctx.command_path if error.ctx else PROGRAM
    _end(f"{error.format_message()}\n{path} --help shows how it is used.", error.exit_code)


def _system_fault(error: OSError) -> str:
    """Print what the operating system refused, with file names made safe to show."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    shown = " and ".join(escape_unprintable(mask_numbers(name)) for name in names)
    reason = error.strerror or type(error).__name__
    return f"{shown}: {reason}." if shown else f"{reason}."


def _discard_output() -> None:
    """Let nothing more go to a reader that has gone, nor complain when the interpreter ends."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = io.StringIO()
    finally:
        os.close(devnull)
