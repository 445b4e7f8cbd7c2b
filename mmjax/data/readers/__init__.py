"""Readers of published schemas, one short file per family; a module here is a kind of `open_dataset`."""
