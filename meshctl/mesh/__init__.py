"""What MESH and its use cases define: addresses, control files, codes, states. No I/O beyond its own tables."""
