"""A simulator of MESH Client, MESH and practices on the folders of a mailbox, for tests and demos."""
