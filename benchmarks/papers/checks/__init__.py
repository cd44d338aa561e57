"""Measurements of tables that are no runs: functions of numbers or cells by row and column."""
