"""Asking the kernel whether somebody still has a file open for writing.

Quiet is not complete: a writer that pauses longer than `quiet_seconds` would be taken for done. On Linux a
read lease on a file is granted only while nobody has it open for writing, so asking for one and giving it
back at once answers the question for local writers. Elsewhere, for another user's files and on file systems
without leases there is no answer, and the quiet time alone decides.
"""

import os
import sys

if sys.platform == "linux":
    import fcntl
    import signal

    def ignore_lease_breaks() -> None:
        """Keep a writer that opens a file in the instant of our question from ending the process."""
        signal.signal(signal.SIGIO, signal.SIG_IGN)

    def is_being_written(path: str, flags: int) -> bool:
        """True if somebody is known to have the file open for writing."""
        try:
            descriptor = os.open(path, flags)
        except OSError:
            return False
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        else:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            return False
        finally:
            os.close(descriptor)

else:

    def ignore_lease_breaks() -> None:
        """Do nothing: there are no leases here."""

    def is_being_written(path: str, flags: int) -> bool:
        """Return nothing: there are no leases here."""
        del path, flags
        return False
