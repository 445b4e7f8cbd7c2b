"""One name table per family; see `mmjax.interop.names`."""
