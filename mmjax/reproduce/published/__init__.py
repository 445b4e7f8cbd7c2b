"""What papers, official code and model cards say, one table per family: literals and where they come from.

`ROWS` of every module here is part of the ledger. These files import nothing but `mmjax.reproduce.row`, and
no computing code imports them. Papers are cited by authors and year, code as repository:file.
"""
