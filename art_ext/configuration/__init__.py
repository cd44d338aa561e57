"""Values of options, as text of the command line and as TOML."""
