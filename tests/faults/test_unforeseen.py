"""A fault in meshctl itself: one file that it meets costs nobody but that file."""

from pathlib import Path

from tests.invariants import check_invariants
from tests.payloads import pdf
from tests.site import make_site, sidecar

# Stands for a fault that nobody knows yet: reading any file that holds a word raises an exception of its own.
_FAULT = """
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder

class Faulty(MetaPathFinder, Loader):
    def find_spec(self, name, path=None, target=None):
        if name != "meshctl.payload.reader":
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            read = module.read_content
            def faulty(data):
                if b"unlucky" in data:
                    raise KeyError("9990000042 unlucky Smith")
                return read(data)
            module.read_content = faulty
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Faulty())
"""


def test_a_file_that_meets_a_fault_is_refused_and_the_others_are_sent(tmp_path: Path) -> None:
    """The file is refused with the place of the fault, never its text; letters beside it are sent."""
    site = make_site(tmp_path / "site")
    library = tmp_path / "library"
    library.mkdir()
    (library / "sitecustomize.py").write_text(_FAULT)
    site.environ["PYTHONPATH"] = str(library)
    for number in range(3):
        site.place(f"{number}.pdf", pdf(f"letter {number}"), sidecar=sidecar())
    site.place("4.pdf", pdf("unlucky"), sidecar=sidecar())

    site.run_once()

    (explanation,) = site.explanations()
    assert explanation.payload.read_bytes() == pdf("unlucky")
    assert explanation.content["code"] == "meshctl_fault"
    assert explanation.content["text"].startswith("A fault in meshctl itself: KeyError at ")
    everything = site.log_file.read_text() + explanation.path.read_text()
    assert "Smith" not in everything
    assert "9990000042" not in everything
    assert len(site.stems()) == 3
    check_invariants(site)
