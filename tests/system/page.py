"""The pages for a server, as an administrator follows them: block by block, each command as it stands."""

import re
import tomllib
from itertools import chain

from tests.readme_tables import ROOT, code_blocks, parts
from tests.system.machine import Machine

FOLDER = ROOT / "systemd"
_CLONE = "/usr/local/src/meshctl"


def blocks() -> dict[tuple[str, str], list[str]]:
    """Return what the pages have typed, by page and heading."""
    found: dict[tuple[str, str], list[str]] = {}
    for page in sorted(FOLDER.glob("*.md")):
        for title, text in parts(page.read_text(encoding="utf-8")):
            if typed := code_blocks(text, "sh"):
                found[page.name, title] = typed
    return found


def settings_shown(page: str, title: str) -> str:
    """Return the settings that a page shows under a heading."""
    by_title = dict(parts((FOLDER / page).read_text(encoding="utf-8")))
    return "\n".join(code_blocks(by_title[title], "toml"))


def named_packages() -> list[str]:
    """Return the Debian packages that the pages have installed."""
    lines = re.findall(r"^apt-get install -y (.*)$", "".join(chain(*blocks().values())), re.MULTILINE)
    return sorted({name for line in lines for name in line.split()})


def edited(text: str, shown: str) -> str:
    """Return the text of a settings file as one edits it to say what a page shows, key by key."""
    for section, keys in tomllib.loads(shown).items():
        head, begin, rest = text.partition(f"\n[{section}]\n")
        assert begin, f"there is no [{section}]"
        body, bracket, tail = rest.partition("\n[")
        for key in keys:
            (line,) = re.findall(rf"^{key} = .*$", shown, re.MULTILINE)
            there = re.compile(rf"^#?{key} = .*$", re.MULTILINE)
            assert there.search(body), f"[{section}] has no {key}"
            body = there.sub(line.replace("\\", r"\\"), body, count=1)
        text = head + begin + body + bracket + tail
    return text


class Administrator:
    """Somebody at a root shell of the machine, with the pages before him."""

    def __init__(self, host: Machine, environment: dict[str, str]) -> None:
        self._host = host
        self._environment = [f"{key}={value}" for key, value in environment.items()]
        self.followed: set[tuple[str, str]] = set()

    def follow(self, page: str, title: str, *, check: bool = True) -> str:
        """Type all that stands under a heading, in the clone; return what was said."""
        self.followed.add((page, title))
        return self.type("\n".join(blocks()[page, title]), check=check)

    def type(self, commands: str, *, check: bool = True) -> str:
        """Type commands, and stop at the first that fails; return what was said."""
        shell = [
            "env",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            *self._environment,
        ]
        there = f"test ! -d {_CLONE} || cd {_CLONE}\n"
        done = self._host.run(*shell, "sh", "-ec", there + commands, check=False)
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{commands}\n{said}"
        return said

    def set(self, file: str, shown: str) -> None:
        """Edit a settings file to say what a page shows, key by key."""
        text = edited(self._host.run("cat", file).stdout, shown)
        self._host.run("sh", "-c", f"cat > {file}", text=text)
