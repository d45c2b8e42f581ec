"""A real browser, without a window and without it calling anywhere, to look at a page with."""

import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Chromium's windows are never narrower than 500 pixels; a frame is.
WINDOW = (1280, 1800)


def draw(page: Path, folder: Path, width: int) -> tuple[Path, int]:
    """Draw a page in a frame of `width` pixels; return the picture and how wide the page needs to be."""
    folder.mkdir(exist_ok=True)
    asking = folder / "asking.html"
    text = page.read_text(encoding="utf-8")
    # The page's own policy forbids all scripts, so a copy of it gets one that tells how wide it is.
    asking.write_text(
        text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'").replace(
            "</body>",
            "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script></body>",
        ),
        encoding="utf-8",
    )
    frame = folder / "frame.html"
    frame.write_text(
        f"<!DOCTYPE html><body style='margin:0'><iframe style='width:{width}px;height:1700px;border:0'"
        f" src='{asking.as_uri()}'></iframe>"
        "<script>onmessage = event => document.title = 'needs ' + event.data</script>",
        encoding="utf-8",
    )
    picture = folder / f"shot-{width}.png"
    _chromium(folder, f"--screenshot={picture}", frame)
    document = _chromium(folder, "--dump-dom", frame)
    needs = document.partition("<title>needs ")[2].partition("</title>")[0]
    assert needs.isdigit(), "the page did not tell its width"
    return picture, int(needs)


def _chromium(folder: Path, task: str, page: Path) -> str:
    ended = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--hide-scrollbars", "--virtual-time-budget=2000", f"--user-data-dir={folder / 'browser'}",
            task, f"--window-size={WINDOW[0]},{WINDOW[1]}", page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout
