"""`meshctl simulate` from the command line."""

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshctl.cli import cli
from meshctl.daemon.mailbox_lock import serving
from meshctl.simulator.service import work_folder
from tests.check.checked_site import IS_ROOT, NOBODY
from tests.payloads import pdf
from tests.simulator.conftest import MAILBOX, MESSAGE, SimulatedMailbox
from tests.site import make_site, sidecar, wait_until

FAST = ("--speed", "1000000")


def simulate(simulated: SimulatedMailbox, *options: str) -> Result:
    return CliRunner().invoke(cli, ["-c", str(simulated.settings.file), "simulate", *options])


def start(simulated: SimulatedMailbox) -> subprocess.Popen[str]:
    """Start the simulator as a process, and wait until it serves the mailbox."""
    process = subprocess.Popen(
        [sys.executable, "-m", "meshctl", "-c", str(simulated.settings.file), "simulate", *FAST],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "nothing leaves this machine" in process.stdout.readline()
    return process


def test_once_takes_what_is_there_and_ends(simulated: SimulatedMailbox) -> None:
    """--once waits until the pairs in OUT are old enough, takes them, and says how much is still to come."""
    simulated.write_rules('[timing]\ninfrastructure_ack = "3000d"\nbusiness_ack = "3000d"')
    simulated.put_itk3("letter-1")
    result = simulate(simulated, "--once", "--rules", str(simulated.rules), "--speed", "100")

    assert result.exit_code == 0
    assert simulated.names("SENT") == ["letter-1.ctl", "letter-1.dat"]
    assert "letter-1 to SENT as" in result.output
    assert result.output.endswith("ended, with 2 deliveries still to come\n")


def test_what_was_to_come_comes_in_a_later_run(simulated: SimulatedMailbox) -> None:
    simulated.write_rules('[timing]\ninfrastructure_ack = "1s"\nbusiness_ack = "1s"')
    simulated.put_itk3("letter-1")
    simulate(simulated, "--once", "--rules", str(simulated.rules), *FAST)
    simulate(simulated, "--once", *FAST)

    assert len([name for name in simulated.names("IN") if name.endswith(".dat")]) == 2


@pytest.mark.skipif(not IS_ROOT, reason="needs root, who is another user")
@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_a_payload_of_another_user_holds_nobody_up(simulated: SimulatedMailbox, mode: int) -> None:
    """Linux lets nobody link it: to ourselves it goes as a copy, or fails where it cannot be read."""
    # Python itself may lie where only root can look: what is needed is loaded before.
    simulated.put("ours", replace(MESSAGE, to_dts=MAILBOX))
    assert simulate(simulated, "--once", *FAST).exit_code == 0
    with tempfile.TemporaryDirectory() as folder:
        simulated = SimulatedMailbox.at(Path(folder))
        for place in (folder, *(place for place, _, _ in os.walk(folder))):
            os.chown(place, NOBODY, NOBODY)
        simulated.put("a-foreign", replace(MESSAGE, to_dts=MAILBOX))
        simulated.put("b-later")
        out = simulated.settings.mailbox.out_folder
        (out / "a-foreign.dat").chmod(mode)
        result = simulate(simulated, "--once", *FAST)
        payloads = simulated.settings.mailbox.in_folder.glob("*.dat")
        arrived = [path.stat().st_uid for path in payloads if path.read_bytes() == pdf("a letter")]

        assert result.exit_code == 0, result.output
        assert "b-later.ctl" in simulated.names("SENT")
        assert arrived == ([NOBODY] if mode == 0o644 else [])
        assert ("a-foreign.ctl" in simulated.names("FAILED")) is (mode == 0o600)


def test_wrong_rules_end_with_exit_code_2(simulated: SimulatedMailbox) -> None:
    simulated.write_rules("[[rules]]\nerror = 1")
    simulated.put("letter-1")
    result = simulate(simulated, "--once", "--rules", str(simulated.rules))

    assert result.exit_code == 2
    assert "rules[1].error: found 1" in result.stderr
    assert simulated.names("OUT") == ["letter-1.ctl", "letter-1.dat"]


def test_mailbox_that_a_client_has_served_is_not_served(simulated: SimulatedMailbox) -> None:
    """The simulator does not take the letters of a live mailbox, unless told that it is one for tests."""
    mailbox = simulated.settings.mailbox
    work_folder(mailbox).rmdir()
    (mailbox.sent_folder / "real.ctl").write_text("x")
    simulated.put("letter-1")
    refused = simulate(simulated, "--once", *FAST)

    assert refused.exit_code == 1
    assert "give --test-mailbox" in refused.stderr
    assert simulated.names("OUT") == ["letter-1.ctl", "letter-1.dat"]

    assert simulate(simulated, "--once", "--test-mailbox", *FAST).exit_code == 0
    assert simulated.names("OUT") == []
    assert simulate(simulated, "--once", *FAST).exit_code == 0


def test_only_one_may_serve_a_mailbox(simulated: SimulatedMailbox) -> None:
    mailbox = simulated.settings.mailbox
    with serving(mailbox, "the bridge"):
        result = simulate(simulated, "--once", *FAST)

    assert result.exit_code == 1
    assert f"{mailbox.folder} is served already: the bridge, process {os.getpid()} on" in result.stderr


@pytest.mark.sampled(1)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_in_order(simulated: SimulatedMailbox, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end the simulator with exit code 0."""
    process = start(simulated)
    process.send_signal(number)
    output, _ = process.communicate(timeout=240)

    assert process.returncode == 0
    assert output.endswith("ended, with 0 deliveries still to come\n")


def test_folder_that_is_gone_is_printed_once_and_waited_for(simulated: SimulatedMailbox) -> None:
    """A mailbox whose OUT vanishes, as shares do, is served again when it is back."""
    with start(simulated) as process:
        assert process.stdout is not None
        out = simulated.settings.mailbox.out_folder
        out.rename(out.with_name("GONE"))
        said = process.stdout.readline()
        with pytest.raises(FileNotFoundError) as gone:
            os.scandir(out)
        out.with_name("GONE").rename(out)
        simulated.put("letter-1")
        sent = process.stdout.readline()
        process.terminate()

    assert said.endswith(f"cannot go on, {gone.value.strerror}; trying again\n")
    assert "letter-1 to SENT as" in sent


@pytest.mark.slow
def test_reader_that_never_reads_does_not_stop_the_stand_in(tmp_path: Path) -> None:
    """A program that starts the simulator and leaves its output in the pipe still has its messages taken."""
    site = make_site(tmp_path)
    for number in range(900):
        site.place(f"letter-{number}.pdf", pdf(f"letter {number}"), sidecar=sidecar(local_id="x" * 40))
    site.run_once()
    with subprocess.Popen(
        site.command("simulate", "--speed", "1000"), env=site.process_environ(), stdout=subprocess.PIPE
    ) as process:
        try:
            wait_until(lambda: not any(site.out.iterdir()), "OUT to be emptied")
        finally:
            process.kill()
