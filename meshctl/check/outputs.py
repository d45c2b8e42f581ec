"""Where meshctl tells what goes wrong: the log, the alert command, and the metrics."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from meshctl.check.finding import Finding, error, remark, right, warning
from meshctl.check.folders import try_out
from meshctl.check.surroundings import Surroundings
from meshctl.check.system import ourselves


def check_log(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether the log can be appended to; nothing is written."""
    file = surroundings.settings.log.file
    if not os.path.exists(file):
        # Whether it can be made shows at its folder.
        return
    if not file.is_file():
        yield error(
            "log", f"{file} (log.file) is no file.", "Move it away, or name another file in log.file."
        )
        return
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_APPEND))
    except OSError as problem:
        us = ourselves()
        who = f"User {us.name}" if us else "This user"
        yield error(
            "log",
            f"{who} cannot append to the log {file}: {os.strerror(problem.errno or 0)}.",
            f"Run meshctl check as the user that the daemon runs as; if this is that user: chown it {file}",
        )
    else:
        yield right("log", f"The log {file} can be written.")


def check_alerts(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether the alert command can be run, and by whom it could be changed; it is not run."""
    command = surroundings.settings.alerts.command
    if not command:
        yield remark(
            "alerts",
            "There is no alert command: failures and missed deadlines reach the log alone.",
            "Set command in [alerts] to a program that tells somebody; the README has examples.",
        )
        return
    program = command[0]
    found = shutil.which(program)
    if found is None:
        there = os.path.exists(program)
        yield error(
            "alerts",
            f"The alert command {program} {'cannot be executed' if there else 'is not there'}"
            " (alerts.command).",
            f"Make it executable: chmod +x {program}"
            if there
            else "Correct the path in [alerts] command, or install the program.",
        )
    elif os.name != "nt" and Path(found).stat().st_mode & stat.S_IWOTH:
        yield error(
            "alerts",
            f"Everybody on this computer can change the alert command {found}, which runs as meshctl's user.",
            f"Take the right away: chmod o-w {found}",
        )
    else:
        yield right("alerts", f"The alert command {found} can be run.")


def check_metrics(surroundings: Surroundings) -> Iterator[Finding]:
    """Check whether the metrics file can be put into the collector's folder, if one is wanted."""
    file = surroundings.settings.metrics.textfile
    if file is None:
        return
    folder = file.parent
    if os.path.isdir(file):
        yield warning(
            "metrics",
            f"{file} (metrics.textfile) is a folder, so no metrics can be written.",
            "Move it away, or name another file in [metrics] textfile.",
        )
        return
    try:
        try_out(folder)
    except (FileNotFoundError, NotADirectoryError):
        yield warning(
            "metrics",
            f"The metrics' folder {folder} (metrics.textfile) is not there, so none are written.",
            "Install node_exporter, or correct textfile in [metrics]: its folder is what"
            " --collector.textfile.directory names.",
        )
    except OSError as problem:
        yield warning(
            "metrics",
            f"No metrics can be written in {folder} (metrics.textfile): {_reason(problem)}.",
            f"Let meshctl's user write there: chgrp meshctl {folder} && chmod g+w {folder}; under systemd"
            f" also ReadWritePaths={folder} in the unit.",
        )
    else:
        yield right("metrics", f"The metrics can be written in {folder}.")


def _reason(problem: OSError) -> str:
    if problem.errno != errno.EACCES:
        return os.strerror(problem.errno or 0)
    us = ourselves()
    return f"{f'user {us.name}' if us else 'this user'} may not"
