"""A stand-in for MESH Client, MESH and practice on the folders of a mailbox, for tests and demos."""
