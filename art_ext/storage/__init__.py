"""Run folders: atomic writes, identity and layout."""
