"""Set-ups broken on purpose: folders, and who may do what in them."""

from tests.check.broken import ERROR, INFO, WARNING, Broken
from tests.check.checked_site import CheckedSite


def _file_for_folder(checked: CheckedSite) -> None:
    checked.site.outbox.rmdir()
    checked.site.outbox.touch()


def _dangling_outbox(checked: CheckedSite) -> None:
    checked.site.outbox.rmdir()
    checked.site.outbox.symlink_to("/nowhere/at/all")


def _mailbox_elsewhere(checked: CheckedSite) -> None:
    checked.mailbox.rename(checked.site.root / "moved")


def _closed_parent(checked: CheckedSite) -> None:
    checked.site.work.rmdir()
    checked.site.root.chmod(0o500)


def _report_we_may_not_read(checked: CheckedSite) -> None:
    report = checked.site.client_folder("IN") / "report.ctl"
    report.touch()
    report.chmod(0)


def _patient_with_use_case_droppers(checked: CheckedSite) -> None:
    checked.make_use_case_folder(0o770)
    checked.set_settings(staging={"quiet_seconds": 45})


def _secret_for_all(checked: CheckedSite) -> None:
    _closed_secret(checked)
    (checked.site.root / "password").chmod(0o644)
    for folder in (checked.site.root, checked.site.root.parent):
        folder.chmod(0o755)


def _closed_secret(checked: CheckedSite) -> None:
    secret = checked.site.root / "password"
    secret.write_text("secret")
    secret.chmod(0)
    reference = f"file:{secret}"
    checked.set_settings(bridge={"environment": "sandbox", "password": reference, "shared_key": reference})


FOLDERS = (
    Broken(
        "outbox missing", lambda g: g.site.outbox.rmdir(), "folder.outbox", ERROR, "does not exist", "mkdir"
    ),
    Broken("outbox a file", _file_for_folder, "folder.outbox", ERROR, "is not a folder", "Move it away"),
    Broken(
        "mailbox gone", _mailbox_elsewhere, "folder.mailbox", ERROR, "does not exist", "folder in [mailbox]"
    ),
    Broken("OUT missing", lambda g: g.site.out.rmdir(), "folder.OUT", ERROR, "OUT", "Start the MESH Client"),
    Broken(
        "IN missing", lambda g: g.site.client_folder("IN").rmdir(), "folder.IN", ERROR, "IN", "MESH Client"
    ),
    Broken(
        "SENT missing",
        lambda g: g.site.client_folder("SENT").rmdir(),
        "folder.SENT",
        WARNING,
        "cannot be read",
        "The MESH Client creates it",
    ),
    Broken(
        "deliver missing",
        lambda g: g.set_settings(reports={"deliver": "arrived"}),
        "folder.deliver",
        ERROR,
        "reports.deliver",
        "mkdir",
    ),
)

# What links and permissions do, as POSIX has them.
RIGHTS = (
    Broken("outbox a dead link", _dangling_outbox, "folder.outbox", ERROR, "is a link to something", "mkdir"),
    Broken(
        "mailbox closed", lambda g: g.mailbox.chmod(0), "folder.OUT", ERROR, "cannot be examined", "chmod"
    ),
    Broken(
        "above the mailbox closed",
        lambda g: g.mailbox.parent.chmod(0),
        "folder.mailbox",
        ERROR,
        "lack of rights on a folder above",
        "chmod",
    ),
    Broken("work cannot be made", _closed_parent, "folder.work", ERROR, "cannot be created in", "mkdir"),
    Broken(
        "rejected closed",
        lambda g: g.site.rejected.chmod(0o500),
        "rights.rejected",
        ERROR,
        "may not write in",
        "chown",
    ),
    Broken(
        "state closed", lambda g: g.site.state.chmod(0o500), "rights.state", ERROR, "may not write", "chmod"
    ),
    Broken(
        "work cannot be entered",
        lambda g: g.site.work.chmod(0o600),
        "rights.work",
        ERROR,
        "may not enter",
        "chmod",
    ),
    Broken("OUT closed", lambda g: g.site.out.chmod(0o500), "rights.OUT", ERROR, "write in", "chgrp"),
    Broken(
        "IN unreadable",
        lambda g: g.site.client_folder("IN").chmod(0o300),
        "rights.IN",
        ERROR,
        "read",
        "chgrp",
    ),
    Broken(
        "reports unreadable", _report_we_may_not_read, "rights.reports", ERROR, "1 of 1 reports", "UMask=0027"
    ),
)

EXPOSURE = (
    Broken(
        "secret closed to the service",
        _closed_secret,
        "access.bridge.password",
        ERROR,
        "as whom the service runs, may not read",
        "LoadCredential=",
    ),
    Broken("secret for all", _secret_for_all, "access.bridge.password", WARNING, "everybody", "chmod o-r "),
    Broken(
        "outbox for all",
        lambda g: g.site.outbox.chmod(0o777),
        "world_writable.outbox",
        ERROR,
        "Everybody",
        "chmod 3770",
    ),
    Broken(
        "outbox for all, sticky",
        lambda g: g.site.outbox.chmod(0o1777),
        "world_writable.outbox",
        ERROR,
        "Everybody",
        "chmod 3770",
    ),
    Broken(
        "use case for all",
        lambda g: g.make_use_case_folder(0o777),
        "world_writable.outbox",
        ERROR,
        "outbox/send-document",
        "chmod 3770",
    ),
    Broken(
        "settings for all",
        lambda g: g.site.settings_file.chmod(0o666),
        "world_writable.settings",
        ERROR,
        "can change the settings",
        "chmod o-w",
    ),
    Broken(
        "settings folder for all",
        lambda g: g.site.root.chmod(0o777),
        "world_writable.settings",
        ERROR,
        "can replace the settings",
        "chmod o-w",
    ),
    Broken(
        "others may drop, and write on",
        lambda g: g.site.outbox.chmod(0o2770),
        "watching.writers",
        WARNING,
        "without CAP_LEASE",
        "AmbientCapabilities=CAP_LEASE",
    ),
    Broken(
        "others may drop for a use case, and a pause is meant",
        _patient_with_use_case_droppers,
        "watching.writers",
        INFO,
        "unchanged for 45 s",
        "AmbientCapabilities=CAP_LEASE",
    ),
    Broken("state open", lambda g: g.site.state.chmod(0o755), "mode.state", WARNING, "0755", "chmod 0700"),
    Broken("state for all", lambda g: g.site.state.chmod(0o777), "mode.state", ERROR, "0777", "chmod 0700"),
    Broken(
        "key open", lambda g: (g.site.state / "key").chmod(0o640), "mode.key", ERROR, "0640", "chmod 0600"
    ),
    Broken("log open", lambda g: g.site.log_file.chmod(0o644), "mode.log", WARNING, "0644", "chmod 0600"),
    Broken(
        "log for a group", lambda g: g.site.log_file.chmod(0o640), "mode.log", INFO, "0640", "a log shipper"
    ),
    Broken(
        "no such group",
        lambda g: g.set_settings(mailbox={"group": "no-such-group"}),
        "mailbox.group",
        ERROR,
        "There is no group",
        "groupadd no-such-group",
    ),
)
