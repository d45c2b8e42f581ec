"""The command line: which commands there are, and how every one of them ends.

A command's module is loaded only when that command runs, so that --help is quick. Whatever goes wrong, a
person sees one or two plain lines and never a traceback, which may contain a patient's data.
"""

import difflib
import io
import os
import sys
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click

from meshctl import __version__
from meshctl.errors import MeshctlError, is_closed_pipe
from meshctl.platform import host
from meshctl.settings import mailboxes
from meshctl.terminal.output import os_error_text

PROGRAM = "meshctl"
DEBUG_VARIABLE = "MESHCTL_DEBUG"
# What a shell reports for a program ended by SIGINT and by SIGPIPE.
_EXIT_INTERRUPTED = 130
_EXIT_BROKEN_PIPE = 141

_EPILOG = """\b
Begin with:
  meshctl demo                   see it work, in under a minute
  meshctl init /srv/mesh         create the folders and the settings
  meshctl -c FILE check          check that everything is set up right
  meshctl -c FILE run            send what is dropped into the outbox
  meshctl status --all           see every mailbox of this server

\b
Settings are those of -c FILE or -m NAME, else of $MESHCTL_CONFIG,
./meshctl.toml or /etc/meshctl/meshctl.toml. -m NAME stands for
/etc/meshctl/NAME.toml, which meshctl init --system NAME makes. On Windows the
folder is %ProgramData%\\meshctl, and -m NAME stands for NAME\\meshctl.toml in it.
MESHCTL_SECTION__KEY in the environment overrides a key, for example
MESHCTL_LOG__LEVEL=DEBUG.

\b
Exit codes: 0 success, 1 a problem was found, 2 wrong usage or settings."""


@dataclass(frozen=True, slots=True)
class _Entry:
    module: str
    help: str


COMMANDS: dict[str, dict[str, _Entry]] = {
    "Set up": {
        "init": _Entry("init", "Create the folders and a commented settings file."),
        "check": _Entry("check", "Check that everything is set up right, and say what to do if not."),
        "alert": _Entry("alert", "Send a test alert by mail and command, and say what came of it."),
        "demo": _Entry("demo", "Show a day of a mailbox in under a minute, on a copy of the sample."),
        "backup": _Entry("backup", "Back up the ledger, the key and the settings of a mailbox."),
        "restore": _Entry("restore", "Put the ledger and the key of a mailbox back from a back-up."),
        "simulate": _Entry("simulate", "Simulate MESH Client, MESH and practice on the mailbox's folders."),
    },
    "Send": {
        "run": _Entry("run", "Send what is dropped into the outbox, and track it (the daemon)."),
        "bridge": _Entry("bridge", "Serve the mailbox over the MESH API, instead of a MESH Client."),
        "service": _Entry("service", "Run the daemon as a Windows service."),
        "send": _Entry("send", "Copy files into the outbox safely."),
        "reload": _Entry("reload", "Make the daemon read its settings again."),
        "resend": _Entry("resend", "Send a failed or undelivered message again."),
        "redrop": _Entry("redrop", "Put rejected files back into the outbox, as they were dropped."),
        "withdraw": _Entry("withdraw", "Take a message back before the MESH Client takes it."),
    },
    "Look": {
        "status": _Entry(
            "status", "Count messages by state; show what is overdue and whether the MESH Client is active."
        ),
        "list": _Entry("list", "List messages, newest first."),
        "show": _Entry("show", "Show one message and its history."),
        "find": _Entry("find", "Find the messages about a patient."),
        "logs": _Entry("logs", "Read the log."),
        "report": _Entry("report", "Write what became of a day's messages as one HTML page."),
    },
    "Explain": {
        "control": _Entry(
            "control", "Print the control file that would be written for a file; write nothing."
        ),
        "lookup": _Entry("lookup", "Ask MESH for the mailboxes of an organisation."),
        "address": _Entry("address", "Print the routing string of a patient (To_DTS, Mex-To)."),
        "explain": _Entry(
            "explain", "Explain a control file, a payload, a code, or an event of the log in plain words."
        ),
        "use-cases": _Entry("use_cases", "List the use cases, as your settings change them."),
    },
}
"""The commands as help groups them."""


class CommandLine(click.Group):
    """The group of all commands; it turns every error into plain lines and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of help."""
        return [name for entries in COMMANDS.values() for name in entries]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return it."""
        entry = next((entries[cmd_name] for entries in COMMANDS.values() if cmd_name in entries), None)
        if entry is None:
            return None
        command: click.Command = import_module(f"meshctl.commands.{entry.module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands into the help text, without loading them."""
        for title, entries in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()], col_spacing=4)

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
        """Return the command that the arguments name; suggest the nearest name where there is none."""
        names = self.list_commands(ctx)
        near = difflib.get_close_matches(args[0], names, n=1)
        if near and args[0] not in names and not args[0].startswith("-"):
            ctx.fail(f"No such command '{args[0]}'. Did you mean {near[0]}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print an error as plain lines and end with its exit code."""
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
            _end(os_error_text(error), MeshctlError.exit_code)


def _complete_name(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[str]:
    """Return the names of mailboxes that begin as typed."""
    return [name for name in mailboxes.names() if name.startswith(typed)]


@click.command(
    cls=CommandLine,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    # Whether it may be read is for the command to say: who only drops files needs no right to it.
    type=click.Path(path_type=Path, readable=False),
    help="The settings file. Default: $MESHCTL_CONFIG, ./meshctl.toml, /etc/meshctl/meshctl.toml.",
)
@click.option(
    "-m",
    "name",
    metavar="NAME",
    shell_complete=_complete_name,
    help=f"A mailbox of this server by its name: the settings in {host.named_settings('NAME')}.",
)
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM)
def cli(config: Path | None, name: str | None) -> None:
    """Drop a file into a folder: the patient's GP practice gets it over NHS MESH, and you see that it did."""
    # Whether there is such a mailbox is for the command to say, in the way that its callers read.
    if name is not None and config is not None:
        raise click.UsageError("Give either -c FILE or -m NAME, not both.")


def main() -> None:
    """Run the command line of this process and exit with its code."""
    sys.excepthook = report_unexpected
    threading.excepthook = _report_in_thread
    for stream in (sys.stdout, sys.stderr):
        # A file name may not be text in the terminal's encoding; showing it must not fail.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
            if sys.platform == "win32" and not stream.isatty():
                # A pipe or file gets the same bytes as on any other system.
                reconfigure(encoding="utf-8", newline="\n")
    try:
        cli.main(prog_name=PROGRAM)
    except OSError as error:
        # --help is printed before any command runs.
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
    """Print on stderr where an unexpected error happened, without its text or any value.

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
        f"{PROGRAM}: unexpected {kind.__name__}{where}. This is a bug in meshctl; please report it.\n"
        f"{DEBUG_VARIABLE}=1 in the environment shows all of it, which may include patient data.",
        err=True,
    )


def _report_in_thread(hook: threading.ExceptHookArgs) -> None:
    if hook.exc_value is not None:
        report_unexpected(hook.exc_type, hook.exc_value, hook.exc_traceback)


def _end(text: str, exit_code: int) -> NoReturn:
    """Print on stderr what went wrong, and end the command."""
    click.echo(f"{PROGRAM}: {text}", err=True)
    raise click.exceptions.Exit(exit_code) from None


def _end_usage(error: click.UsageError) -> NoReturn:
    """Print a usage error as two lines: what is wrong, and where to find the right usage."""
    path = error.ctx.command_path if error.ctx else PROGRAM
    _end(f"{error.format_message()}\nSee {path} --help.", error.exit_code)


def _discard_output() -> None:
    """Discard all further output, so that ending the interpreter does not fail on a closed pipe."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = io.StringIO()
    finally:
        os.close(devnull)
