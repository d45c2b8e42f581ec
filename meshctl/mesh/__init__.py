"""What MESH and its use cases define: addresses, control files, codes, states. No I/O but its own tables."""
