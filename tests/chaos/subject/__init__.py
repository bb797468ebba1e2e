"""One module a family: the targets that faults are tried on. See `tests.chaos.case`."""
