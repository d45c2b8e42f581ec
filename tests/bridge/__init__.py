"""Tests of the bridge, over NHS England's own mesh-sandbox; skipped, with a message, where it is missing."""

import pytest

for package in ("mesh_client", "mesh_sandbox", "uvicorn", "trustme"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install -e '.[test]' brings it")
