"""The report of runs: one page that works from disk, its plots and its pictures."""

from art_ext.evaluation.report.page import render, write_report

__all__ = ["render", "write_report"]
