"""The report of runs: one page that works from disk, its plots and its pictures."""

from art_ext.evaluation.report.page import figure, render, write_report

__all__ = ["figure", "render", "write_report"]
