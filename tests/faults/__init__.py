"""Faults while the daemon runs: it says once what is wrong, waits without spinning, and goes on when mended.

Most need root, to mount small file systems and to run the daemon as another user; elsewhere they are skipped.
"""
