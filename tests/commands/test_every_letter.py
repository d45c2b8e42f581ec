"""Every letter that was dropped is in exactly one count of `meshctl status`, whatever the daemon does."""

import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from meshctl.commands.status import collect
from meshctl.settings.load import load_settings
from tests.payloads import pdf
from tests.site import Site, make_site, sidecar, wait_until

_NUMBERS = itertools.count()


def _letter(site: Site, name: str, folder: str | None) -> int:
    site.place(f"{name}.pdf", pdf(name), folder=folder, sidecar=sidecar())
    return 1


def _without_sidecar(site: Site, name: str, folder: str | None) -> int:
    site.place(f"{name}.pdf", pdf(name), folder=folder)
    return 1


def _no_message(site: Site, name: str, folder: str | None) -> int:
    site.place(f"{name}.XML", b"<none/>", folder=folder)
    return 1


def _wrong_sidecar(site: Site, name: str, folder: str | None) -> int:
    site.place(f"{name}.pdf", pdf(name), folder=folder, sidecar={"patinet": {}})
    return 1


def _sidecar_alone(site: Site, name: str, folder: str | None) -> int:
    site.place_sidecar(f"{name}.pdf", sidecar(), folder=folder)
    return 1


def _empty(site: Site, name: str, folder: str | None) -> int:
    site.target(f"{name}.pdf", folder).touch()
    return 1


def _link(site: Site, name: str, folder: str | None) -> int:
    site.target(f"{name}.pdf", folder).symlink_to("/etc/hostname")
    return 1


def _link_to_nothing(site: Site, name: str, folder: str | None) -> int:
    site.target(f"{name}.pdf", folder).symlink_to("nothing")
    return 1


def _fifo(site: Site, name: str, folder: str | None) -> int:
    os.mkfifo(site.target(f"{name}.pdf", folder))
    return 1


def _odd_name(site: Site, name: str, folder: str | None) -> int:
    site.place(os.fsdecode(f'{name}\n"x" 999 000 0042 '.encode() + b"\xff.pdf"), pdf(name), folder=folder)
    return 1


def _long_name(site: Site, name: str, folder: str | None) -> int:
    site.place(f"{name:x>251}.pdf", pdf(name), folder=folder)
    return 1


def _pair_by_hand(site: Site, name: str, folder: str | None) -> int:
    site.place(f"{name}.dat", pdf(name), folder=folder)
    return 1


def _ignored(site: Site, name: str, folder: str | None) -> int:
    for ignored in (f".{name}.pdf", f"~${name}.docx", f"{name}.tmp", f"{name}.part"):
        site.target(ignored, folder).write_bytes(b"x")
    return 0


def _folder(site: Site, name: str, folder: str | None) -> int:
    site.target(f"{name}.pdf", folder).mkdir()
    (site.target(f"{name}.pdf", folder) / "letter.pdf").write_bytes(b"x")
    return 1


_KINDS: tuple[Callable[[Site, str, str | None], int], ...] = (
    _letter, _without_sidecar, _no_message, _wrong_sidecar, _sidecar_alone, _empty, _link, _link_to_nothing,
    _fifo, _odd_name, _long_name, _pair_by_hand, _ignored, _folder,
)  # fmt: skip
_Drops = list[tuple[Callable[[Site, str, str | None], int], str | None]]
_drops = st.lists(st.tuples(st.sampled_from(_KINDS), st.sampled_from([None, "send-document"])), max_size=6)


class _Counted:
    """A site, and how many letters were dropped on it."""

    def __init__(self, site: Site) -> None:
        self.site, self.dropped = site, 0
        (site.outbox / "send-document").mkdir()

    def drop(self, drops: _Drops) -> None:
        """Drop one after the other, and count all of them after each."""
        for kind, folder in drops:
            self.dropped += kind(self.site, f"n{next(_NUMBERS)}", folder)
            self.check()

    def check(self) -> None:
        """Each letter is in one count now."""
        status = collect(load_settings(self.site.settings_file, {}))
        outbox, states = status["outbox"], status["states"]
        assert sum(outbox.values()) + sum(states.values()) == self.dropped, (outbox, states)

    def check_until(self, condition: Callable[[], object], what: str) -> None:
        """Count again and again until the condition holds."""

        def holds() -> object:
            self.check()
            return condition()

        wait_until(holds, what)


def _is_settled(site: Site) -> bool:
    outbox = collect(load_settings(site.settings_file, {}))["outbox"]
    return bool(outbox["ready"] == 0)


@pytest.mark.slow
@given(_drops, _drops, _drops)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_every_letter_is_in_one_count_between_runs(before: _Drops, blocked: _Drops, after: _Drops) -> None:
    """With `run --once`, with OUT away and back, and without any: each is counted once."""
    with tempfile.TemporaryDirectory() as folder:
        counted = _Counted(make_site(Path(folder) / "site", staging={"sidecar_wait_seconds": 0.001}))
        counted.drop(before)
        counted.site.out.rmdir()
        counted.drop(blocked)
        counted.site.meshctl("run", "--once")
        counted.check()
        counted.site.out.mkdir()
        counted.drop(after)
        counted.site.meshctl("run", "--once")
        counted.check()


@pytest.mark.slow
@given(_drops, _drops, _drops, _drops)
# Without the phase that looks for a smaller example, in which each wait for a daemon would be repeated.
@settings(max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate], deadline=None)
def test_every_letter_is_in_one_count_while_a_daemon_works(
    down: _Drops, running: _Drops, blocked: _Drops, killed: _Drops
) -> None:
    """Down, at work, blocked, killed and started again: each is counted once at every moment."""
    with tempfile.TemporaryDirectory() as folder:
        counted = _Counted(make_site(Path(folder) / "site"))
        site = counted.site
        counted.drop(down)
        daemon = site.start("run")
        try:
            counted.drop(running)
            counted.check_until(lambda: _is_settled(site), "all to be dealt with")
            site.out.rename(site.root / "away")
            site.out.write_bytes(b"a file in the place of OUT")
            counted.drop(blocked)
            counted.check_until(lambda: site.events("daemon.blocked"), "the daemon to be blocked")
        finally:
            daemon.process.kill()
            daemon.process.communicate()
        counted.drop(killed)
        site.out.unlink()
        (site.root / "away").rename(site.out)
        with site.daemon():
            counted.check_until(lambda: _is_settled(site), "all to be dealt with")
        counted.check()
