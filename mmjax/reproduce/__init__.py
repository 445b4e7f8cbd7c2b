"""The ledger: every published number this library can check, beside what the library itself computes.

`published` holds what papers and official code say, as plain literals: one table per family. `measures` holds
the functions that compute the same figures from the library's systems and formulas; it cannot see the tables.
`ledger` asks the measures, and only then looks up what was published.
"""
