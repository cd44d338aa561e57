"""Analysis of records: tables, verdicts, warnings and comparisons."""
