"""What Windows and POSIX do differently, behind one set of names each.

`system` has the files and folders of the system that this is, `host` its users, rights and processes, `shell`
what people type there.
"""

import sys

if sys.platform == "win32":
    from meshctl.platform import windows as system
    from meshctl.platform import windows_host as host
    from meshctl.platform import windows_shell as shell
else:
    from meshctl.platform import posix as system
    from meshctl.platform import posix_host as host
    from meshctl.platform import posix_shell as shell

__all__ = ["host", "shell", "system"]
