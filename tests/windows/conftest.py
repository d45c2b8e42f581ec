"""What is tested on Windows only, and what runs it there from Linux."""

import sys

collect_ignore_glob = ["test_under_wine.py", "test_page.py"] if sys.platform == "win32" else []
if sys.platform != "win32":
    collect_ignore_glob += [
        "test_access_lists.py",
        "test_closed_folders.py",
        "test_arrivals.py",
        "test_demo.py",
        "test_held_open.py",
        "test_kills.py",
        "test_many.py",
        "test_requests.py",
        "test_service.py",
        "test_service_account.py",
        "test_shares.py",
    ]
