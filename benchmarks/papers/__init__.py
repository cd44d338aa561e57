"""The tables and figures of the five papers as data, with one runner and fixed verdicts.

Each TOML file of this folder is one published table or figure: its rows, the settings in which we
measure it, and its claims. ``sources.toml`` names the papers, and the tables without a file yet
with the reason. ``results`` holds what was measured, ``configurations`` the files of other
commands. Run with ``art-ext papers`` or ``python -m art_ext.benchmarks.papers``.
"""
