"""The bridge: does the MESH Client's job, OUT to MESH and MESH to IN, over the MESH API."""
