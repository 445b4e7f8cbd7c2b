"""One family of public releases per file; see `mmjax.interop.family`."""
